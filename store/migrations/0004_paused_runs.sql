-- A run may pause: its process has ended, its checkpoint waits.
drop view run_now;
create table run_event_next (
    event_id varchar primary key, seq bigint not null, run_id varchar not null,
    status varchar not null check (status in ('queued', 'running', 'paused', 'done', 'failed', 'cancelled')),
    reason varchar, policy_id varchar, verdict varchar, metrics json, created timestamp not null
);
insert into run_event_next select * from run_event order by seq;
drop table run_event;
alter table run_event_next rename to run_event;

create view run_now as
select r.*, e.status, e.reason, e.policy_id, e.verdict, e.metrics, e.changed
from run r
join (
    select run_id, arg_max(status, seq) as status, arg_max(reason, seq) as reason, arg_max(policy_id, seq) as policy_id,
           arg_max(verdict, seq) as verdict, arg_max(metrics, seq) as metrics, max(created) as changed
    from run_event group by run_id
) e on e.run_id = r.run_id;
