-- An app_user row is changed, not only added: `seq` is that of its last change, so that a replay of the journal knows
-- the newer of two lines. password_hash is argon2id; null: no password yet, or none is wanted.
alter table app_user add column password_hash varchar;
alter table app_user add column languages varchar[];
alter table app_user add column goal integer;

-- invite: a link that sets a password, spent by that. `token_id` and `tail`, the last characters of the secret, are what
-- a list may show.
create table api_token_next (
    token_hash varchar primary key, token_id varchar not null, user_id varchar not null, label varchar, tail varchar,
    kind varchar not null check (kind in ('api', 'link', 'login', 'invite')),
    created timestamp not null, expires timestamp, ended timestamp
);
insert into api_token_next
select token_hash, uuid()::varchar, user_id, label, null, kind, created, expires, ended from api_token;
drop table api_token;
alter table api_token_next rename to api_token;
