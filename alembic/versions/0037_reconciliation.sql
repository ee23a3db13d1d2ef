-- Reconciliation of payouts: its runs, what they found, and withdrawals from the treasury that people recorded.

-- USDC that the platform took out of its treasury again.
alter table transfer
    drop constraint ck_transfer_transfercode,
    add constraint ck_transfer_transfercode check (code in (
        'credit_grant', 'credit_expired', 'usage_hold', 'usage_charge', 'usage_shortfall', 'usage_earning',
        'usage_fee', 'hold_released', 'hold_expired', 'refund', 'refund_clawback', 'refund_fee', 'adjustment_credit',
        'adjustment_debit', 'deposit_card', 'deposit_usdc', 'deposit_unattributed', 'deposit_assigned',
        'deposit_withdrawn', 'deposit_usdc_refund', 'treasury_funding', 'treasury_withdrawn', 'deposit_refund', 'payment_fee',
        'dispute_opened', 'dispute_shortfall', 'dispute_won', 'dispute_lost', 'receivable_settled',
        'receivable_written_off', 'reserve_kept', 'reserve_released', 'payout_sent', 'payout_settled',
        'payout_returned', 'reversal'
    ));
alter table transfer_code disable trigger refuse_change;
insert into transfer_code (code, debit_kind, credit_kind, state, asset, one_owner)
values ('treasury_withdrawn', 'platform_capital', 'external_usdc', 'posted', 'usd', true);
alter table transfer_code enable trigger refuse_change;

create table reconciliation_run (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    number bigint generated always as identity,
    trigger varchar(32) not null,
    requested_by uuid,
    since timestamp with time zone,
    finished_at timestamp with time zone,
    error varchar,
    treasury varchar,
    genesis varchar,
    endpoints integer,
    slot bigint,
    opening_run_id uuid,
    opening_micro_usdc bigint,
    balance_micro_usdc bigint,
    lamports bigint,
    fees_lamports bigint not null default 0,
    parts integer not null default 0,
    transactions integer not null default 0,
    differences integer not null default 0,
    constraint pk_reconciliation_run primary key (id),
    constraint uq_reconciliation_run_number unique (number),
    constraint ck_reconciliation_run_runtrigger check (trigger in ('nightly', 'admin', 'operator')),
    constraint ck_reconciliation_run_admin_is_named check ((trigger = 'admin') = (requested_by is not null)),
    constraint ck_reconciliation_run_finished_has_figures
        check (finished_at is null or error is not null or (slot is not null and balance_micro_usdc is not null
            and opening_micro_usdc is not null and lamports is not null)),
    constraint ck_reconciliation_run_not_negative
        check (differences >= 0 and parts >= 0 and transactions >= 0),
    constraint ck_reconciliation_run_no_debt_on_chain
        check (balance_micro_usdc >= 0 and lamports >= 0 and fees_lamports >= 0),
    constraint fk_reconciliation_run_requested_by_user
        foreign key (requested_by) references "user" (id) on delete restrict,
    constraint fk_reconciliation_run_opening_run_id_reconciliation_run
        foreign key (opening_run_id) references reconciliation_run (id) on delete restrict
);
create index ix_reconciliation_run_whole on reconciliation_run (created_at)
    where finished_at is not null and error is null;

create table reconciliation_difference (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    number bigint generated always as identity,
    run_id uuid not null,
    last_run_id uuid not null,
    kind varchar(32) not null,
    subject_table varchar not null,
    subject varchar not null,
    expected varchar not null,
    found varchar not null,
    gone_at timestamp with time zone,
    resolved_at timestamp with time zone,
    resolved_by uuid,
    reason varchar,
    constraint pk_reconciliation_difference primary key (id),
    constraint uq_reconciliation_difference_number unique (number),
    constraint ck_reconciliation_difference_differencekind
        check (kind in (
            'finalized_not_landed', 'landed_not_finalized', 'landed_twice', 'marker', 'signature', 'chain_facts', 'amount',
            'wallet', 'payee', 'part_total', 'batch_total', 'item_state', 'attempt', 'ledger', 'unexplained_payment',
            'unexplained_receipt', 'not_on_chain', 'treasury_balance', 'clearing', 'mirror', 'endpoints'
        )),
    constraint ck_reconciliation_difference_both_sides
        check (length(expected) between 1 and 300 and length(found) between 1 and 300),
    constraint ck_reconciliation_difference_resolved_as_a_whole
        check ((resolved_at is null) = (reason is null) and (resolved_by is null or resolved_at is not null)
            and length(reason) between 1 and 500),
    constraint fk_reconciliation_difference_run_id_reconciliation_run
        foreign key (run_id) references reconciliation_run (id) on delete restrict,
    constraint fk_reconciliation_difference_last_run_id_reconciliation_run
        foreign key (last_run_id) references reconciliation_run (id) on delete restrict,
    constraint fk_reconciliation_difference_resolved_by_user
        foreign key (resolved_by) references "user" (id) on delete restrict
);
create unique index uq_reconciliation_difference_standing
    on reconciliation_difference (kind, subject_table, subject, expected, found) where gone_at is null;
create index ix_reconciliation_difference_open on reconciliation_difference (id) where resolved_at is null;
create index ix_reconciliation_difference_run_id on reconciliation_difference (run_id);

create table treasury_withdrawal (
    signature varchar not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    slot bigint not null,
    amount_micro_usdc bigint not null,
    reason varchar not null,
    recorded_by uuid,
    constraint pk_treasury_withdrawal primary key (signature),
    constraint ck_treasury_withdrawal_amount_positive check (amount_micro_usdc > 0),
    constraint ck_treasury_withdrawal_has_reason check (length(reason) between 1 and 500),
    constraint ck_treasury_withdrawal_signature_is_base58 check (signature ~ '^[1-9A-HJ-NP-Za-km-z]{64,88}$'),
    constraint fk_treasury_withdrawal_recorded_by_user
        foreign key (recorded_by) references "user" (id) on delete restrict
);

-- What a run said stays said.
create function reconciliation_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = tg_op || ' on ' || tg_table_name || ' is refused: what was found stays as it was found';
end $$;
create trigger refuse_change before update on reconciliation_run for each row
    when (old.finished_at is not null) execute function reconciliation_refuse();
create trigger refuse_change before update on reconciliation_difference for each row
    when (
        (old.id, old.number, old.created_at, old.run_id, old.kind, old.subject_table, old.subject, old.expected, old.found)
            is distinct from
        (new.id, new.number, new.created_at, new.run_id, new.kind, new.subject_table, new.subject, new.expected, new.found)
        or (old.gone_at is not null and new.gone_at is distinct from old.gone_at)
        or (old.resolved_at is not null and (old.resolved_at, old.resolved_by, old.reason)
            is distinct from (new.resolved_at, new.resolved_by, new.reason))
    ) execute function reconciliation_refuse();
create trigger refuse_change before update on treasury_withdrawal for each row execute function reconciliation_refuse();
do $$
declare
    v_table text;
begin
    foreach v_table in array array['reconciliation_run', 'reconciliation_difference', 'treasury_withdrawal'] loop
        execute format(
            'create trigger refuse_removal before delete or truncate on %I for each statement'
            ' execute function reconciliation_refuse()', v_table
        );
        execute format('revoke delete on %I from raymart_runtime', v_table);
        -- The platform's: its people without a reach see these, and no tenant does.
        perform tenant_isolate(v_table::regclass, '(select tenant_sees_market())');
    end loop;
end $$;

-- Payouts that were stopped because chain and ledger differ go on when each difference has its reason, and not before.
create function payout_switch_refuse_resume() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_open bigint;
begin
    select count(*) into v_open from reconciliation_difference where resolved_at is null;
    if v_open > 0 then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_payout_switch_differences_are_resolved', table = tg_table_name,
            message = v_open || ' differences between chain and ledger are open: give each a reason first';
    end if;
    return new;
end $$;
create trigger refuse_resume before update on payout_switch for each row
    when (old.source = 'reconciliation' and old.resumed_at is null and new.resumed_at is not null)
    execute function payout_switch_refuse_resume();
