-- The audit log: what people, keys and operators changed. An entry is of the transaction that made the change, and stays
-- as it is; seals, made seconds later under a key that the database does not have, show what its owner edits.

create table audit_entry (
    id bigint generated always as identity,
    -- The transaction that wrote the entry, as pg_current_xact_id() counts; seals follow its order (0010, transfer.xact_id).
    xact_id bigint not null default pg_current_xact_id()::text::bigint,
    created_at timestamp with time zone not null default clock_timestamp(),
    actor_kind varchar(32) not null,
    actor_id uuid,
    actor_name varchar(100),
    acting_organization_id uuid,
    organization_id uuid,
    session_id uuid,
    request_id uuid,
    action varchar(100) not null,
    subject_kind varchar(32),
    subject_id uuid,
    -- Everything that the act named or changed, the subject among it.
    mentions uuid[] not null,
    outcome varchar(32) not null,
    detail jsonb not null,
    -- SHA-256 of the row in audit_origin: sealed in its place, so that the address itself can be forgotten.
    origin_digest bytea,
    constraint pk_audit_entry primary key (id),
    constraint ck_audit_entry_actorkind check (
        actor_kind in ('user', 'api_key', 'service_account', 'node', 'operator', 'system', 'anonymous')
    ),
    constraint ck_audit_entry_auditoutcome check (outcome in ('done', 'refused')),
    constraint ck_audit_entry_actor_is_named check (
        (actor_kind in ('user', 'api_key', 'service_account', 'node')) = (actor_id is not null)
        and (actor_kind in ('operator', 'system')) = (actor_name is not null)
    ),
    constraint ck_audit_entry_subject_is_whole check ((subject_kind is null) = (subject_id is null)),
    constraint ck_audit_entry_detail_length check (length(detail::text) <= 20000),
    constraint ck_audit_entry_mentions_length check (cardinality(mentions) <= 100)
);
create index ix_audit_entry_xact_id_id on audit_entry (xact_id, id);
create index ix_audit_entry_organization_id_id on audit_entry (organization_id, id);
create index ix_audit_entry_actor_id_id on audit_entry (actor_id, id);
create index ix_audit_entry_action_id on audit_entry (action, id);
create index ix_audit_entry_created_at on audit_entry (created_at);
create index ix_audit_entry_mentions on audit_entry using gin (mentions);
create index ix_audit_entry_refused on audit_entry (actor_id, created_at) where outcome = 'refused';

-- Where an act came from: personal data, and the one part of the log that may be forgotten.
create table audit_origin (
    entry_id bigint not null,
    -- Without it the digest of a forgotten address could be found by trying all addresses.
    salt bytea not null,
    address varchar(64),
    user_agent varchar(300),
    constraint pk_audit_origin primary key (entry_id),
    constraint fk_audit_origin_entry_id_audit_entry foreign key (entry_id) references audit_entry (id)
);

-- A chain over all entries in the order in which they became certain, as transfer_seal is over transfers.
create table audit_seal (
    position bigint not null,
    entry_id bigint not null,
    hash bytea not null,
    constraint pk_audit_seal primary key (position),
    constraint uq_audit_seal_entry_id unique (entry_id),
    constraint ck_audit_seal_position_positive check (position > 0),
    constraint ck_audit_seal_hash_is_sha256 check (length(hash) = 32)
);

create function audit_digest(p_salt bytea, p_address text, p_user_agent text) returns bytea
language sql stable set search_path = public, pg_temp as $$
    select sha256(p_salt || convert_to(jsonb_build_array(p_address, p_user_agent)::text, 'UTF8'))
$$;

-- Append an entry to this transaction. Returns its number; null when nothing was appended: with `p_if_written`, because the
-- transaction has changed nothing; of a refusal, because nobody is known to have been refused, or because the same actor
-- was refused 20 times within the hour, so that no stranger can fill the table.
create function audit_append(
    p_if_written boolean, p_actor_kind text, p_actor_id uuid, p_actor_name text, p_acting_organization_id uuid,
    p_organization_id uuid, p_session_id uuid, p_request_id uuid, p_action text, p_subject_kind text, p_subject_id uuid,
    p_mentions uuid[], p_outcome text, p_detail jsonb, p_address text, p_user_agent text
) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_id bigint;
    v_salt bytea;
begin
    if p_if_written and pg_current_xact_id_if_assigned() is null then
        return null;
    end if;
    if p_outcome = 'refused' and (p_actor_id is null or (
        select count(*) from (
            select from audit_entry
             where outcome = 'refused' and actor_id = p_actor_id and created_at > clock_timestamp() - interval '1 hour'
             limit 20
        ) refused
    ) >= 20) then
        return null;
    end if;
    if p_address is not null or p_user_agent is not null then
        v_salt := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    end if;
    insert into audit_entry (
        actor_kind, actor_id, actor_name, acting_organization_id, organization_id, session_id, request_id, action,
        subject_kind, subject_id, mentions, outcome, detail, origin_digest
    ) values (
        p_actor_kind, p_actor_id, p_actor_name, p_acting_organization_id, p_organization_id, p_session_id, p_request_id,
        p_action, p_subject_kind, p_subject_id, p_mentions, p_outcome, p_detail,
        case when v_salt is not null then audit_digest(v_salt, p_address, p_user_agent) end
    ) returning id into v_id;
    if v_salt is not null then
        insert into audit_origin (entry_id, salt, address, user_agent) values (v_id, v_salt, p_address, p_user_agent);
    end if;
    return v_id;
end $$;

-- Append seals after position `p_after`. Returns the new last position, or null when another sealer was there first.
create function audit_seal_append(p_after bigint, p_entry_ids bigint[], p_hashes bytea[]) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if cardinality(p_entry_ids) is distinct from cardinality(p_hashes) or cardinality(p_hashes) = 0 then
        raise exception using
            errcode = 'invalid_parameter_value', message = 'seals are 1 or more entries and as many hashes';
    end if;
    -- One sealer at a time; nobody else takes this lock.
    perform pg_advisory_xact_lock(7240003);
    if coalesce((select max(position) from audit_seal), 0) <> p_after then
        return null;
    end if;
    insert into audit_seal (position, entry_id, hash)
    select p_after + n, w.entry_id, w.hash
      from unnest(p_entry_ids, p_hashes) with ordinality w (entry_id, hash, n);
    return p_after + cardinality(p_hashes);
end $$;

-- Forget where entries came from: of one actor, of one organization, or older than a moment. Returns how many. The
-- entries, their digests and seals stay.
create function audit_forget_origins(p_actor_id uuid, p_organization_id uuid, p_before timestamp with time zone)
returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_count bigint;
begin
    -- Only says that it is meant: who may not delete here may not by this either.
    perform set_config('raymart.audit_forgets', 'yes', true);
    delete from audit_origin o
     using audit_entry e
     where e.id = o.entry_id
       and (e.actor_id = p_actor_id or e.organization_id = p_organization_id or e.created_at < p_before);
    get diagnostics v_count = row_count;
    perform set_config('raymart.audit_forgets', '', true);
    return v_count;
end $$;


-- Guards ---------------------------------------------------------------------------------------------------------

create function audit_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = tg_op || ' on ' || tg_table_name || ' is refused: what was recorded stays as it is';
end $$;
create trigger refuse_change before update or delete or truncate on audit_entry
    for each statement execute function audit_refuse();
create trigger refuse_change before update or delete or truncate on audit_seal
    for each statement execute function audit_refuse();
create trigger refuse_change before update or truncate on audit_origin
    for each statement execute function audit_refuse();
create trigger refuse_removal before delete on audit_origin
    for each statement when (current_setting('raymart.audit_forgets', true) is distinct from 'yes')
    execute function audit_refuse();

create function audit_check_entry() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if new.xact_id <> pg_current_xact_id()::text::bigint then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_audit_entry_is_of_its_transaction', table = 'audit_entry',
            message = 'an entry carries the transaction that writes it: nothing is added to the past';
    end if;
    return new;
end $$;
create trigger check_entry before insert on audit_entry for each row execute function audit_check_entry();

revoke insert, update, delete on audit_entry, audit_origin, audit_seal from raymart_runtime;
revoke execute on function
    audit_append(
        boolean, text, uuid, text, uuid, uuid, uuid, uuid, text, text, uuid, uuid[], text, jsonb, text, text
    ),
    audit_seal_append(bigint, bigint[], bytea[]), audit_forget_origins(uuid, uuid, timestamp with time zone),
    audit_digest(bytea, text, text)
from public;
grant execute on function
    audit_append(
        boolean, text, uuid, text, uuid, uuid, uuid, uuid, text, text, uuid, uuid[], text, jsonb, text, text
    ),
    audit_seal_append(bigint, bigint[], bytea[]), audit_forget_origins(uuid, uuid, timestamp with time zone),
    audit_digest(bytea, text, text)
to raymart_runtime;
