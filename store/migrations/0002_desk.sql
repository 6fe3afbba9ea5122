-- A pool says how its prompts are judged and by whom. Its row is changed, not only added: `seq` is that of the last
-- change, so that a replay of the journal knows the newer of two lines.
create table pool (
    pool_id varchar primary key, seq bigint not null, name varchar not null,
    mode varchar not null check (mode in ('pair', 'best_worst', 'conversation')),
    tags varchar[] not null, -- none: the prompts that no other active pool's tags match
    language varchar, weight double not null,
    annotators varchar[] not null, -- user ids; none: everybody
    overlap_share double, overlap_annotators integer, -- null: as configured
    turns integer not null, active boolean not null, created timestamp not null
);
insert into pool values
    ('everything', 0, 'Everything', 'pair', [], null, 1, [], null, null, 4, true, make_timestamp(epoch_us(now())));

-- What a pool holds: prompts with one of `tags`; with `rest`, which pools without tags have, those with none of `taken`.
create view pool_tags as
select pool_id, tags, len(tags) = 0 as rest,
    coalesce((select flatten(list(tags)) from pool where active), []) as taken
from pool;

-- c and d: of sets of four. wanted: how many annotators should judge it.
alter table pair add column pool_id varchar default 'everything';
alter table pair add column kind varchar default 'pair';
alter table pair add column wanted integer default 1;
alter table pair add column conversation_id varchar;
alter table pair add column turn integer;
alter table pair add column c_text varchar;
alter table pair add column c_token_ids integer[];
alter table pair add column c_logprob_sum double;
alter table pair add column c_logprob_count integer;
alter table pair add column c_finish_reason varchar;
alter table pair add column c_policy_id varchar;
alter table pair add column c_seed bigint;
alter table pair add column c_sampling json;
alter table pair add column d_text varchar;
alter table pair add column d_token_ids integer[];
alter table pair add column d_logprob_sum double;
alter table pair add column d_logprob_count integer;
alter table pair add column d_finish_reason varchar;
alter table pair add column d_policy_id varchar;
alter table pair add column d_seed bigint;
alter table pair add column d_sampling json;

drop view preference;
drop view judgment_live;

-- shown, reopened: a lease; this annotator has the pair, its sides in shown_order, until lease_expires.
-- ended: the lease of that lease_expires is over, by a pick or because the pair needs no more of them.
create table annotator_event_next (
    event_id varchar primary key, seq bigint not null, user_id varchar not null,
    kind varchar not null check (kind in ('shown', 'reopened', 'ended')),
    pair_id varchar not null, shown_order varchar not null, -- 'ba': side b left; 'cadb': from the first of four on
    lease_expires timestamp not null, created timestamp not null
);
insert into annotator_event_next
select event_id, seq, user_id, kind, pair_id, if(left_side = 'a', 'ab', 'ba'), lease_expires, created
from annotator_event;
insert into annotator_event_next
select uuid()::varchar, j.seq, j.user_id, 'ended', j.pair_id, if(j.left_side = 'a', 'ab', 'ba'), e.lease_expires, j.created
from judgment j join (
    select j.judgment_id, max(e.lease_expires) as lease_expires
    from judgment j join annotator_event e on e.pair_id = j.pair_id and e.user_id = j.user_id and e.seq < j.seq
    group by j.judgment_id
) e on e.judgment_id = j.judgment_id;
drop table annotator_event;
alter table annotator_event_next rename to annotator_event;
create index annotator_event_pair on annotator_event (pair_id); -- read with every pick, as is the next one

-- ranked: the best and the worst of four. left_side is null for sets of four.
create table judgment_next (
    judgment_id varchar primary key, seq bigint not null, pair_id varchar not null, user_id varchar not null,
    verdict varchar not null check (verdict in ('left', 'right', 'tie', 'both_bad', 'skip', 'flag', 'ranked')),
    preferred varchar check (preferred in ('a', 'b')), left_side varchar, shown_order varchar,
    best varchar check (best in ('a', 'b', 'c', 'd')), worst varchar check (worst in ('a', 'b', 'c', 'd')),
    strength integer, reasons varchar[] not null, comment varchar, edited_text varchar, ms_spent bigint,
    guidelines_version integer,
    source varchar not null check (source in ('human', 'simulated', 'import')), created timestamp not null
);
insert into judgment_next (
    judgment_id, seq, pair_id, user_id, verdict, preferred, left_side, shown_order, strength, reasons, comment,
    edited_text, ms_spent, source, created
)
select judgment_id, seq, pair_id, user_id, verdict, preferred, left_side, if(left_side = 'a', 'ab', 'ba'), strength,
    reasons, comment, edited_text, ms_spent, source, created
from judgment order by seq;
drop table judgment;
alter table judgment_next rename to judgment;
create index judgment_pair on judgment (pair_id);

-- What a researcher did with a flagged pair: back to the queues, or out of them for good.
create table flag_resolution (
    resolution_id varchar primary key, seq bigint not null, judgment_id varchar not null, user_id varchar not null,
    action varchar not null check (action in ('returned', 'removed')), note varchar, created timestamp not null
);

create table guideline (
    version integer primary key, seq bigint not null, markdown varchar not null, user_id varchar not null,
    created timestamp not null
);

-- Changed like `pool`.
create table practice_item (
    practice_id varchar primary key, seq bigint not null, position integer not null, messages json not null,
    left_text varchar not null, right_text varchar not null,
    verdict varchar not null check (verdict in ('left', 'right', 'tie', 'both_bad')),
    explanation varchar not null, active boolean not null, created timestamp not null
);

create table practice_answer (
    answer_id varchar primary key, seq bigint not null, practice_id varchar not null, user_id varchar not null,
    verdict varchar not null, correct boolean not null, created timestamp not null
);

-- One annotator's talk. Its turns are pairs; what was said so far follows from them. Changed like `pool`, once: `ended`.
create table conversation (
    conversation_id varchar primary key, seq bigint not null, user_id varchar not null, pool_id varchar not null,
    prompt_id varchar, messages json not null, turns integer not null, created timestamp not null, ended timestamp
);

create view judgment_live as
select j.* from judgment j
where not exists (select 1 from retraction r where r.judgment_id = j.judgment_id);

-- What training and preference exports read: one row per live pick with a better side, five per ranking of four (the
-- best beats each other one, the two in the middle beat the worst).
create view preference as
select j.seq, j.judgment_id, 0 as comparison, j.pair_id, p.prompt_id, j.user_id, j.source, j.verdict, j.strength,
    j.created, t.messages, t.tags, p.a_policy_id as policy_id,
    coalesce('length' in (p.a_finish_reason, p.b_finish_reason), false) as cut, -- ended by max_tokens
    case j.preferred when 'a' then p.a_text else p.b_text end as chosen,
    case j.preferred when 'a' then p.b_text else p.a_text end as rejected
from judgment_live j
join pair p on p.pair_id = j.pair_id
join prompt t on t.prompt_id = p.prompt_id
where j.preferred is not null
union all
select j.seq, j.judgment_id,
    row_number() over (partition by j.judgment_id order by x.side <> j.best, x.side, y.side) - 1 as comparison,
    j.pair_id, p.prompt_id, j.user_id, j.source, j.verdict, j.strength,
    j.created, t.messages, t.tags, p.a_policy_id as policy_id,
    coalesce('length' in (
        case x.side when 'a' then p.a_finish_reason when 'b' then p.b_finish_reason
                    when 'c' then p.c_finish_reason else p.d_finish_reason end,
        case y.side when 'a' then p.a_finish_reason when 'b' then p.b_finish_reason
                    when 'c' then p.c_finish_reason else p.d_finish_reason end
    ), false) as cut,
    case x.side when 'a' then p.a_text when 'b' then p.b_text when 'c' then p.c_text else p.d_text end as chosen,
    case y.side when 'a' then p.a_text when 'b' then p.b_text when 'c' then p.c_text else p.d_text end as rejected
from judgment_live j
join (values ('a'), ('b'), ('c'), ('d')) x (side) on true
join (values ('a'), ('b'), ('c'), ('d')) y (side)
    on x.side <> y.side and (x.side = j.best or (y.side = j.worst and x.side <> j.best))
join pair p on p.pair_id = j.pair_id
join prompt t on t.prompt_id = p.prompt_id
where j.verdict = 'ranked';
