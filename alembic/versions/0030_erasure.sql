-- The end of an organization: asked for, a week later done; what was personal is gone, the books stay.

create table organization_erasure (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    requested_by uuid,
    due_at timestamp with time zone not null,
    waits_for varchar,
    cancelled_at timestamp with time zone,
    erased_at timestamp with time zone,
    constraint pk_organization_erasure primary key (id),
    constraint fk_organization_erasure_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_organization_erasure_requested_by_user
        foreign key (requested_by) references "user" (id) on delete restrict,
    constraint ck_organization_erasure_ends_once check (cancelled_at is null or erased_at is null),
    constraint ck_organization_erasure_not_before_due check (erased_at >= due_at)
);
-- One at a time, and none after the one that was done.
create unique index uq_organization_erasure_standing on organization_erasure (organization_id)
    where cancelled_at is null;
create index ix_organization_erasure_open on organization_erasure (due_at)
    where cancelled_at is null and erased_at is null;

select tenant_isolate(
    'organization_erasure',
    'organization_id = any ((select tenant_organizations())::uuid[])',
    'organization_id = any ((select tenant_organizations())::uuid[])'
);

-- What was erased is not undone.
create function erasure_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = tg_op || ' on organization_erasure is refused: what was erased stays erased';
end $$;
create trigger refuse_change before update on organization_erasure for each row
    when (old.erased_at is not null) execute function erasure_refuse();
create trigger refuse_removal before delete or truncate on organization_erasure
    for each statement execute function erasure_refuse();

-- Nothing begins in an organization that is erased. After the foreign key's trigger, whose name sorts before this one's: it
-- has waited for an erasure that was under way, and this looks with new eyes.
create function erasure_refuse_new() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if exists (
        select from organization_erasure where organization_id = new.organization_id and erased_at is not null
    ) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_organization_is_not_erased', table = tg_table_name,
            message = 'the organization ' || new.organization_id || ' is erased: nothing begins in it';
    end if;
    return null;
end $$;
do $$
declare
    v_table text;
begin
    foreach v_table in array array[
        'membership', 'invitation', 'project', 'service_account', 'billing_profile', 'deposit', 'credit_grant',
        'balance_adjustment', 'wallet_proof', 'provider', 'privacy_export'
    ] loop
        execute format(
            'create trigger refuse_erased after insert on %I for each row execute function erasure_refuse_new()', v_table
        );
    end loop;
end $$;
revoke execute on function erasure_refuse(), erasure_refuse_new() from public;
