-- Facts are appended, never edited; "now" is a view. Times are naive UTC. `seq` is one order over all facts.
create table app_user (
    user_id varchar primary key, seq bigint not null, name varchar not null unique,
    role varchar not null check (role in ('annotator', 'researcher', 'admin')),
    source varchar not null check (source in ('human', 'simulated', 'import')),
    active boolean not null default true, created timestamp not null
);

-- Secrets are stored as sha256. link: spent by one sign-in; login: one browser session; api: a bearer token.
create table api_token (
    token_hash varchar primary key, user_id varchar not null, label varchar,
    kind varchar not null check (kind in ('api', 'link', 'login')),
    created timestamp not null, expires timestamp, ended timestamp
);

create table prompt (
    prompt_id varchar primary key, seq bigint not null, messages json not null, tags varchar[] not null,
    source varchar not null, content_hash varchar not null unique, created timestamp not null
);

create table pair (
    pair_id varchar primary key, seq bigint not null, prompt_id varchar not null,
    source varchar not null check (source in ('sampled', 'import')),
    prompt_token_ids integer[],
    a_text varchar not null, a_token_ids integer[], a_logprob_sum double, a_logprob_count integer,
    a_finish_reason varchar, a_policy_id varchar, a_seed bigint, a_sampling json,
    b_text varchar not null, b_token_ids integer[], b_logprob_sum double, b_logprob_count integer,
    b_finish_reason varchar, b_policy_id varchar, b_seed bigint, b_sampling json,
    import_key varchar unique, created timestamp not null
);

-- 'shown' is a lease: this annotator has the pair, with side a on the drawn side, until lease_expires.
create table annotator_event (
    event_id varchar primary key, seq bigint not null, user_id varchar not null,
    kind varchar not null check (kind in ('shown', 'reopened')),
    pair_id varchar not null, left_side varchar not null check (left_side in ('a', 'b')),
    lease_expires timestamp not null, created timestamp not null
);

create table judgment (
    judgment_id varchar primary key, seq bigint not null, pair_id varchar not null, user_id varchar not null,
    verdict varchar not null check (verdict in ('left', 'right', 'tie', 'both_bad', 'skip', 'flag')),
    preferred varchar check (preferred in ('a', 'b')), left_side varchar not null,
    strength integer, reasons varchar[] not null, comment varchar, edited_text varchar, ms_spent bigint,
    source varchar not null check (source in ('human', 'simulated', 'import')), created timestamp not null
);

create table retraction (
    retraction_id varchar primary key, seq bigint not null, judgment_id varchar not null, user_id varchar not null,
    created timestamp not null
);

create table policy (
    policy_id varchar primary key, seq bigint not null, parent varchar, run_id varchar, base_model varchar not null,
    adapter_path varchar not null, adapter_sha256 varchar not null, created timestamp not null
);

create table promotion (
    promotion_id varchar primary key, seq bigint not null, policy_id varchar not null,
    action varchar not null check (action in ('promote', 'rollback', 'reject', 'retire')),
    reason varchar not null, user_id varchar, created timestamp not null
);

create table run (
    run_id varchar primary key, seq bigint not null, kind varchar not null, parent_run_id varchar,
    requested_by varchar, config json not null, created timestamp not null
);

create table run_event (
    event_id varchar primary key, seq bigint not null, run_id varchar not null,
    status varchar not null check (status in ('queued', 'running', 'done', 'failed', 'cancelled')),
    reason varchar, policy_id varchar, verdict varchar, metrics json, created timestamp not null
);

create table snapshot (
    snapshot_id varchar primary key, seq bigint not null, run_id varchar not null, folder varchar not null,
    sha256 varchar not null, rows_train bigint not null, rows_eval bigint not null, counts json not null,
    up_to_seq bigint not null, query varchar not null, schema_version integer not null, created timestamp not null
);

create view judgment_live as
select j.* from judgment j
where not exists (select 1 from retraction r where r.judgment_id = j.judgment_id);

-- The policy that serves annotators: the newest promotion or rollback.
create view current_policy as
select policy_id, created as since, reason from promotion
where action in ('promote', 'rollback')
order by seq desc limit 1;

create view policy_now as
select p.*, l.reason,
    case when p.policy_id = (select policy_id from current_policy) then 'champion'
         when l.action is null then 'candidate'
         when l.action = 'reject' then 'rejected'
         else 'retired' end as status,
    coalesce(l.action = 'retire', false) as retired_for_good
from policy p
left join (
    select policy_id, arg_max(action, seq) as action, arg_max(reason, seq) as reason from promotion group by policy_id
) l on l.policy_id = p.policy_id;

create view run_now as
select r.*, e.status, e.reason, e.policy_id, e.verdict, e.metrics, e.changed
from run r
join (
    select run_id, arg_max(status, seq) as status, arg_max(reason, seq) as reason, arg_max(policy_id, seq) as policy_id,
           arg_max(verdict, seq) as verdict, arg_max(metrics, seq) as metrics, max(created) as changed
    from run_event group by run_id
) e on e.run_id = r.run_id;

-- One row per live pick with a better side: what training and preference exports read.
create view preference as
select j.seq, j.judgment_id, j.pair_id, p.prompt_id, j.user_id, j.source, j.verdict, j.strength, j.created,
    t.messages, t.tags, p.a_policy_id as policy_id,
    coalesce('length' in (p.a_finish_reason, p.b_finish_reason), false) as cut, -- ended by max_tokens
    case j.preferred when 'a' then p.a_text else p.b_text end as chosen,
    case j.preferred when 'a' then p.b_text else p.a_text end as rejected
from judgment_live j
join pair p on p.pair_id = j.pair_id
join prompt t on t.prompt_id = p.prompt_id
where j.preferred is not null;
