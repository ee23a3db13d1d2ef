-- What a key may be used for, when it last was, and its former secret while both work. Keys that are there keep what they
-- could do: ask models and list them. No index on the time of last use, so that writing it touches no index at all.

alter table api_key
    add column scopes text[] not null default '{inference,models:read}',
    add column models text[],
    add column last_used_at timestamptz,
    add column rotated_at timestamptz,
    add column former_key_hash bytea,
    add column former_ends_at timestamptz,
    add constraint uq_api_key_former_key_hash unique (former_key_hash),
    add constraint ck_api_key_former_hash_is_sha256 check (length(former_key_hash) = 32),
    add constraint ck_api_key_former_has_an_end check ((former_key_hash is null) = (former_ends_at is null)),
    add constraint ck_api_key_scopes_known check (
        scopes <@ array['inference', 'models:read', 'usage:read', 'keys:read'] and cardinality(scopes) > 0
    ),
    add constraint ck_api_key_models_few check (cardinality(models) between 1 and 100);

-- A release before this one inserts keys without naming scopes; the default stays for the length of a rolling restart and
-- after it, since it says the same as the application's.
