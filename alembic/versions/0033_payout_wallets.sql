-- To which wallet a provider's earnings go: every choice that was ever made, one of them current.
--
-- A choice is of a wallet that the organization has proven within the hour. All but a provider's very first one become
-- payable 72 hours later at the earliest, whatever the application says: who steals a session has to stay unseen for
-- three days. Rows are never rewritten; a choice ends by another one, by its cancellation within the cool-down (the wallet
-- before it is then current again), or by the end of its proof.
--
-- Locks: the proof's row (for share) before the choice, so that a proof cannot end unseen.

create table payout_wallet (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    provider_id uuid not null,
    address varchar not null,
    proof_id uuid not null,
    proven_at timestamp with time zone not null,
    chosen_by uuid not null,
    is_first boolean not null,
    payable_from timestamp with time zone not null,
    earlier_id uuid,
    warnings varchar[] not null,
    check_state varchar(32) not null,
    checked_at timestamp with time zone,
    check_finding varchar,
    ended_at timestamp with time zone,
    end_reason varchar(32),
    ended_by uuid,
    constraint pk_payout_wallet primary key (id),
    constraint fk_payout_wallet_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_payout_wallet_provider_id_provider foreign key (provider_id) references provider (id) on delete restrict,
    constraint fk_payout_wallet_proof_id_wallet_proof foreign key (proof_id) references wallet_proof (id) on delete restrict,
    constraint fk_payout_wallet_chosen_by_user foreign key (chosen_by) references "user" (id) on delete restrict,
    constraint fk_payout_wallet_ended_by_user foreign key (ended_by) references "user" (id) on delete restrict,
    constraint fk_payout_wallet_earlier_id_payout_wallet foreign key (earlier_id) references payout_wallet (id),
    constraint ck_payout_wallet_address_is_base58 check (length(address) between 32 and 44),
    constraint ck_payout_wallet_cools_down
        check (is_first or payable_from >= created_at + interval '72 hours'),
    constraint ck_payout_wallet_first_has_none_before check (not is_first or earlier_id is null),
    constraint ck_payout_wallet_checkstate check (check_state in ('unchecked', 'passed', 'failed')),
    constraint ck_payout_wallet_check_is_whole check (
        (check_state = 'unchecked') = (checked_at is null) and (check_state = 'failed') = (check_finding is not null)
        and length(check_finding) between 1 and 300
    ),
    constraint ck_payout_wallet_endreason check (end_reason in ('replaced', 'cancelled', 'proof_withdrawn')),
    constraint ck_payout_wallet_end_is_whole check (
        (ended_at is null) = (end_reason is null) and (ended_by is null or end_reason in ('replaced', 'cancelled'))
    ),
    constraint ck_payout_wallet_cancelled_while_cooling check (end_reason <> 'cancelled' or ended_at < payable_from)
);
create unique index uq_payout_wallet_current on payout_wallet (provider_id) where ended_at is null;
-- Two first choices at once: one of them is refused.
create unique index uq_payout_wallet_first on payout_wallet (provider_id) where is_first;
create index ix_payout_wallet_provider_id_id on payout_wallet (provider_id, id);
create index ix_payout_wallet_proof_id on payout_wallet (proof_id);
create index ix_payout_wallet_address_current on payout_wallet (address) where ended_at is null;

select tenant_isolate(
    'payout_wallet',
    'organization_id = any ((select tenant_organizations())::uuid[])',
    'organization_id = any ((select tenant_organizations())::uuid[])'
);
revoke delete on payout_wallet from raymart_tenant;

create function payout_wallet_added() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_proof wallet_proof;
begin
    -- For share: a withdrawal waits for this choice, and then ends it; or is seen here.
    select * into v_proof from wallet_proof where id = new.proof_id for share;
    if v_proof.id is null or v_proof.withdrawn_at is not null or v_proof.organization_id <> new.organization_id
       or v_proof.address <> new.address
       or not exists (select from provider where id = new.provider_id and organization_id = new.organization_id) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_payout_wallet_is_proven', table = 'payout_wallet',
            message = 'the provider''s organization has no standing proof of this wallet';
    end if;
    if v_proof.proven_at < clock_timestamp() - interval '1 hour' then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_payout_wallet_proof_is_fresh', table = 'payout_wallet',
            message = 'the proof of this wallet is older than an hour';
    end if;
    -- Not the writer's to say.
    new.created_at := clock_timestamp();
    new.proven_at := v_proof.proven_at;
    new.is_first := not exists (select from payout_wallet where provider_id = new.provider_id);
    -- Later is the application's to say, earlier nobody's.
    new.payable_from := greatest(
        new.payable_from, new.created_at + case when new.is_first then interval '0' else interval '72 hours' end
    );
    new.check_state := 'unchecked';
    new.checked_at := null;
    new.check_finding := null;
    new.ended_at := null;
    new.end_reason := null;
    new.ended_by := null;
    return new;
end $$;
create trigger guard_added before insert on payout_wallet for each row execute function payout_wallet_added();

create function payout_wallet_changed() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_check constant text[] := array['check_state', 'checked_at', 'check_finding'];
    v_end constant text[] := array['ended_at', 'end_reason', 'ended_by'];
    v_newest payout_wallet;
begin
    if to_jsonb(new) - v_check - v_end <> to_jsonb(old) - v_check - v_end then
        raise exception using
            errcode = 'insufficient_privilege', constraint = 'ck_payout_wallet_immutable', table = 'payout_wallet',
            message = 'a choice of a wallet stays as it was made', hint = 'choose a wallet anew; it cools down again';
    end if;
    if (new.check_state, new.checked_at, new.check_finding) is distinct from (old.check_state, old.checked_at, old.check_finding)
    then
        if current_setting('role') = 'raymart_tenant' or new.check_state = 'unchecked' then
            raise exception using
                errcode = 'insufficient_privilege', constraint = 'ck_payout_wallet_checked_by_us', table = 'payout_wallet',
                message = 'what a wallet is on the chain, only a worker finds out';
        end if;
        new.checked_at := clock_timestamp();
    end if;
    if old.ended_at is null and new.ended_at is not null then
        new.ended_at := clock_timestamp();
    elsif old.ended_at is not null and new.ended_at is null then
        -- Back to the wallet before a choice that was cancelled, and to no other.
        select * into v_newest from payout_wallet where provider_id = old.provider_id order by created_at desc, id desc limit 1;
        if old.end_reason <> 'replaced' or v_newest.end_reason is distinct from 'cancelled'
           or v_newest.earlier_id is distinct from old.id
           or not exists (select from wallet_proof where id = old.proof_id and withdrawn_at is null) then
            raise exception using
                errcode = 'insufficient_privilege', constraint = 'ck_payout_wallet_returns', table = 'payout_wallet',
                message = 'a choice that is over comes back only when the one after it is cancelled within its cool-down';
        end if;
    elsif (new.ended_at, new.end_reason, new.ended_by) is distinct from (old.ended_at, old.end_reason, old.ended_by) then
        raise exception using
            errcode = 'insufficient_privilege', constraint = 'ck_payout_wallet_immutable', table = 'payout_wallet',
            message = 'how a choice ended stays as it was';
    end if;
    return new;
end $$;
create trigger guard_changed before update on payout_wallet for each row execute function payout_wallet_changed();

create function payout_wallet_refuse() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if tg_op = 'DELETE' then
        if exists (
            select from organization_erasure e
             where e.organization_id = old.organization_id and e.cancelled_at is null and e.erased_at is null
               and e.due_at <= clock_timestamp()
        ) then
            return old;
        end if;
    end if;
    raise exception using
        errcode = 'insufficient_privilege', constraint = 'ck_payout_wallet_immutable', table = 'payout_wallet',
        message = tg_op || ' on payout_wallet is refused: choices are kept for as long as their organization is';
end $$;
create trigger refuse_removal before delete on payout_wallet for each row execute function payout_wallet_refuse();
create trigger refuse_truncate before truncate on payout_wallet for each statement execute function payout_wallet_refuse();
create trigger refuse_erased after insert on payout_wallet for each row execute function erasure_refuse_new();

create function payout_wallet_end_with_proof() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update payout_wallet set ended_at = clock_timestamp(), end_reason = 'proof_withdrawn'
     where proof_id = new.id and ended_at is null;
    return null;
end $$;
create trigger end_payout_wallet after update of withdrawn_at on wallet_proof for each row
    when (old.withdrawn_at is null and new.withdrawn_at is not null) execute function payout_wallet_end_with_proof();

revoke execute on function
    payout_wallet_added(), payout_wallet_changed(), payout_wallet_refuse(), payout_wallet_end_with_proof()
from public;
