-- Top-ups in USDC: what customers asked to pay, what arrived at the treasury, and how far it was read.

-- Two accounts of the platform: where USDC is whose owner nobody knows yet or that is on its way back, and what the
-- platform itself put into its treasury. So the mirror of the treasury counts every unit that arrived.

alter table ledger_account
    drop constraint ck_ledger_account_accountkind,
    drop constraint ck_ledger_account_owner_by_kind,
    add constraint ck_ledger_account_accountkind check (kind in (
        'customer_balance', 'customer_receivable', 'customer_dispute', 'usage_clearing', 'provider_payable',
        'provider_reserve', 'payout_clearing', 'platform_fee', 'platform_revenue', 'platform_refund',
        'promotional_credit', 'platform_loss', 'payment_cost', 'external_card', 'external_usdc', 'usdc_suspense',
        'platform_capital'
    )),
    add constraint ck_ledger_account_owner_by_kind check ((owner_id is null) = (kind in (
        'platform_fee', 'platform_revenue', 'platform_refund', 'promotional_credit', 'platform_loss', 'payment_cost',
        'external_card', 'external_usdc', 'usdc_suspense', 'platform_capital'
    )));

alter table transfer
    drop constraint ck_transfer_transfercode,
    add constraint ck_transfer_transfercode check (code in (
        'credit_grant', 'credit_expired', 'usage_hold', 'usage_charge', 'usage_shortfall', 'usage_earning',
        'usage_fee', 'hold_released', 'hold_expired', 'refund', 'refund_clawback', 'refund_fee', 'adjustment_credit',
        'adjustment_debit', 'deposit_card', 'deposit_usdc', 'deposit_unattributed', 'deposit_assigned',
        'deposit_withdrawn', 'deposit_usdc_refund', 'treasury_funding', 'deposit_refund', 'payment_fee',
        'dispute_opened', 'dispute_shortfall', 'dispute_won', 'dispute_lost', 'receivable_settled',
        'receivable_written_off', 'reserve_kept', 'reserve_released', 'payout_sent', 'payout_settled',
        'payout_returned', 'reversal'
    ));

alter table transfer_code disable trigger refuse_change;
insert into transfer_code (code, debit_kind, credit_kind, state, asset, one_owner) values
    ('deposit_unattributed', 'external_usdc', 'usdc_suspense', 'posted', 'usd', true),
    ('deposit_assigned', 'usdc_suspense', 'customer_balance', 'posted', 'usd', true),
    ('deposit_withdrawn', 'customer_balance', 'usdc_suspense', 'posted', 'usd', true),
    ('deposit_usdc_refund', 'usdc_suspense', 'external_usdc', 'posted', 'usd', true),
    ('treasury_funding', 'usdc_suspense', 'platform_capital', 'posted', 'usd', true);
alter table transfer_code enable trigger refuse_change;

select ledger_open_account(kind, null, 'usd') from unnest(array['usdc_suspense', 'platform_capital']) kind;

-- Tables -----------------------------------------------------------------------------------------------------------

create table usdc_top_up (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    reference varchar not null,
    amount_micro_usdc bigint,
    url varchar not null,
    idempotency_key varchar not null,
    created_by uuid,
    expires_at timestamp with time zone not null,
    constraint pk_usdc_top_up primary key (id),
    constraint uq_usdc_top_up_organization_id_idempotency_key unique (organization_id, idempotency_key),
    constraint uq_usdc_top_up_reference unique (reference),
    constraint ck_usdc_top_up_amount_positive check (amount_micro_usdc > 0),
    constraint ck_usdc_top_up_reference_is_base58 check (length(reference) between 32 and 44),
    constraint ck_usdc_top_up_key_length check (length(idempotency_key) between 1 and 128),
    constraint fk_usdc_top_up_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_usdc_top_up_created_by_user foreign key (created_by) references "user" (id) on delete restrict
);
create index ix_usdc_top_up_organization_id_id on usdc_top_up (organization_id, id);

create table usdc_deposit (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    signature varchar not null,
    account varchar not null,
    mint varchar not null,
    amount_micro_usdc bigint not null,
    state varchar(32) not null,
    slot bigint not null,
    block_time timestamp with time zone,
    sources jsonb not null,
    memo varchar,
    reference varchar,
    top_up_id uuid,
    organization_id uuid,
    attributed_by varchar(32),
    held_reason varchar,
    final_at timestamp with time zone,
    credited_at timestamp with time zone,
    decided_by uuid,
    decision_reason varchar,
    constraint pk_usdc_deposit primary key (id),
    constraint uq_usdc_deposit_signature_account unique (signature, account),
    constraint ck_usdc_deposit_amount_positive check (amount_micro_usdc > 0),
    constraint ck_usdc_deposit_signature_is_base58 check (length(signature) between 64 and 88),
    constraint ck_usdc_deposit_account_is_base58 check (length(account) between 32 and 44),
    constraint ck_usdc_deposit_memo_length check (length(memo) <= 500),
    constraint ck_usdc_deposit_reason_length check (length(decision_reason) between 1 and 500),
    constraint ck_usdc_deposit_final_when check ((final_at is null) = (state in ('seen', 'dropped'))),
    constraint ck_usdc_deposit_credited_when check (state <> 'credited' or credited_at is not null),
    constraint ck_usdc_deposit_credited_to_somebody check (credited_at is null or organization_id is not null),
    constraint ck_usdc_deposit_attributed_how check ((organization_id is null) = (attributed_by is null)),
    constraint ck_usdc_deposit_usdcdepositstate check (
        state in ('seen', 'dropped', 'final', 'credited', 'refunding', 'refunded', 'funding')
    ),
    constraint ck_usdc_deposit_attribution check (attributed_by in ('reference', 'memo', 'person')),
    constraint fk_usdc_deposit_top_up_id_usdc_top_up
        foreign key (top_up_id) references usdc_top_up (id) on delete restrict,
    constraint fk_usdc_deposit_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_usdc_deposit_decided_by_user foreign key (decided_by) references "user" (id) on delete restrict
);
create index ix_usdc_deposit_organization_id_id on usdc_deposit (organization_id, id);
create index ix_usdc_deposit_top_up_id on usdc_deposit (top_up_id);
create index ix_usdc_deposit_undecided on usdc_deposit (id) where state = 'final';
create index ix_usdc_deposit_seen on usdc_deposit (slot) where state = 'seen';

alter table payout_item
    add constraint fk_payout_item_deposit_id_usdc_deposit
        foreign key (deposit_id) references usdc_deposit (id) on delete restrict;

create table usdc_refund (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    deposit_id uuid not null,
    item_id uuid not null,
    wallet varchar not null,
    amount_micro_usdc bigint not null,
    from_balance boolean not null,
    exchange_acknowledged boolean not null,
    reason varchar not null,
    actor_id uuid not null,
    settled_at timestamp with time zone,
    returned_at timestamp with time zone,
    constraint pk_usdc_refund primary key (id),
    constraint uq_usdc_refund_item_id unique (item_id),
    constraint ck_usdc_refund_amount_positive check (amount_micro_usdc > 0),
    constraint ck_usdc_refund_reason_length check (length(reason) between 1 and 500),
    constraint ck_usdc_refund_ends_once check (settled_at is null or returned_at is null),
    constraint fk_usdc_refund_deposit_id_usdc_deposit
        foreign key (deposit_id) references usdc_deposit (id) on delete restrict,
    constraint fk_usdc_refund_item_id_payout_item
        foreign key (item_id) references payout_item (id) on delete restrict,
    constraint fk_usdc_refund_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict
);
create unique index uq_usdc_refund_standing on usdc_refund (deposit_id) where returned_at is null;

create table usdc_sender (
    wallet varchar not null,
    mark varchar(32) not null,
    reason varchar not null,
    actor_id uuid,
    created_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_usdc_sender primary key (wallet),
    constraint ck_usdc_sender_wallet_is_base58 check (length(wallet) between 32 and 44),
    constraint ck_usdc_sender_reason_length check (length(reason) between 1 and 500),
    constraint ck_usdc_sender_sendermark check (mark in ('blocked', 'exchange')),
    constraint fk_usdc_sender_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict
);

create table treasury_movement (
    signature varchar not null,
    account varchar not null,
    number bigint generated always as identity not null,
    slot bigint not null,
    block_time timestamp with time zone,
    delta_micro_usdc bigint not null,
    failed boolean not null,
    recorded_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_treasury_movement primary key (signature, account),
    constraint uq_treasury_movement_number unique (number),
    constraint ck_treasury_movement_failed_moves_nothing check (not failed or delta_micro_usdc = 0)
);
create index ix_treasury_movement_account_slot on treasury_movement (account, slot);

create table usdc_scan (
    account varchar not null,
    cursor varchar,
    fence bigint not null default 0,
    scanned_at timestamp with time zone,
    problem varchar,
    problem_since timestamp with time zone,
    gap_micro_usdc bigint,
    reread_at timestamp with time zone,
    constraint pk_usdc_scan primary key (account),
    constraint ck_usdc_scan_fence_grows check (fence >= 0)
);

select tenant_isolate('usdc_top_up', 'organization_id = any ((select tenant_organizations())::uuid[])');
select tenant_isolate('usdc_deposit', 'organization_id = any ((select tenant_organizations())::uuid[])');
select tenant_isolate(
    'usdc_refund', 'exists (select from usdc_deposit d where d.id = usdc_refund.deposit_id)'
);
select tenant_isolate('usdc_sender');
select tenant_isolate('treasury_movement');
select tenant_isolate('usdc_scan');

-- Guards -----------------------------------------------------------------------------------------------------------

create function usdc_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = tg_op || ' on ' || tg_table_name || ' is refused: what the chain and people said stays as it is',
        hint = 'decide with what decides: raymart usdc assign, fund or refund';
end $$;

create trigger refuse_change before update or delete or truncate on usdc_top_up
    for each statement execute function usdc_refuse();
create trigger refuse_change before update or delete or truncate on treasury_movement
    for each statement execute function usdc_refuse();
create trigger refuse_removal before delete or truncate on usdc_deposit
    for each statement execute function usdc_refuse();
create trigger refuse_removal before delete or truncate on usdc_refund
    for each statement execute function usdc_refuse();

-- What is final is final; whose money it was when it was credited, too.
create trigger refuse_rewrite before update on usdc_deposit for each row when (
    (old.signature, old.account) is distinct from (new.signature, new.account)
    or (old.final_at is not null and (
        (old.mint, old.amount_micro_usdc, old.slot, old.sources, old.reference, old.memo, old.final_at)
        is distinct from
        (new.mint, new.amount_micro_usdc, new.slot, new.sources, new.reference, new.memo, new.final_at)
    ))
    or (old.credited_at is not null
        and (old.credited_at, old.organization_id) is distinct from (new.credited_at, new.organization_id))
) execute function usdc_refuse();
create trigger refuse_rewrite before update on usdc_refund for each row when (
    (old.deposit_id, old.item_id, old.wallet, old.amount_micro_usdc, old.from_balance, old.reason, old.actor_id)
    is distinct from
    (new.deposit_id, new.item_id, new.wallet, new.amount_micro_usdc, new.from_balance, new.reason, new.actor_id)
    or old.settled_at is not null or old.returned_at is not null
) execute function usdc_refuse();

-- A deposit goes from state to state in one way.
create function usdc_deposit_goes_on() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_step constant text := case tg_op when 'INSERT' then 'nothing' else old.state end || '>' || new.state;
begin
    if v_step <> all (array[
        'nothing>seen', 'nothing>final', 'nothing>credited', 'seen>seen', 'seen>dropped', 'seen>final',
        'seen>credited', 'dropped>dropped', 'dropped>seen', 'dropped>final', 'dropped>credited', 'final>final',
        'final>credited', 'final>funding', 'final>refunding', 'credited>credited', 'credited>refunding',
        'refunding>refunding', 'refunding>refunded', 'refunding>final', 'refunding>credited'
    ]) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_usdc_deposit_goes_on', table = 'usdc_deposit',
            message = 'deposit ' || new.signature || ' does not go ' || v_step;
    end if;
    return new;
end $$;
create trigger goes_on before insert or update on usdc_deposit for each row execute function usdc_deposit_goes_on();

-- And its money goes with it: at the end of the transaction the ledger holds what the state speaks of, and nothing that it
-- does not, or nothing of the transaction stays.
create function usdc_deposit_check_books() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_key constant text := 'usdc_deposit:' || new.signature || ':' || new.account;
    v_now usdc_deposit;
    v_in text;
    v_fits boolean;
begin
    select * into strict v_now from usdc_deposit where id = new.id;
    select code into v_in from transfer where key = v_key and amount = v_now.amount_micro_usdc * 1000;
    v_fits := case
        when v_now.final_at is null then not exists (select from transfer where key = v_key)
        when v_now.credited_at is null then coalesce(v_in = 'deposit_unattributed', false)
        else coalesce(v_in = 'deposit_usdc', false) or coalesce(v_in = 'deposit_unattributed', false) and exists (
            select from transfer where key = v_key || ':assigned' and amount = v_now.amount_micro_usdc * 1000
        )
    end;
    if not v_fits or (v_now.state = 'funding' and not exists (select from transfer where key = v_key || ':funding')) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_usdc_deposit_is_in_the_books', table = 'usdc_deposit',
            message = 'deposit ' || new.signature || ' is ' || v_now.state || ', and the ledger says otherwise';
    end if;
    return null;
end $$;
create constraint trigger check_books after insert or update on usdc_deposit
    deferrable initially deferred for each row execute function usdc_deposit_check_books();

create trigger refuse_erased after insert on usdc_top_up for each row execute function erasure_refuse_new();
revoke execute on function usdc_refuse(), usdc_deposit_goes_on(), usdc_deposit_check_books() from public;
