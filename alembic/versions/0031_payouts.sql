-- Payouts: from what providers earned to batches that people approve and the chain pays once. The guards are in 0032.

-- A span of time whose earnings are paid together.
create table epoch (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    number bigint not null,
    starts_at timestamp with time zone not null,
    ends_at timestamp with time zone not null,
    closed_at timestamp with time zone,
    constraint pk_epoch primary key (id),
    constraint ck_epoch_number_positive check (number > 0),
    constraint ck_epoch_ends_after_start check (ends_at > starts_at),
    constraint ex_epoch_no_overlap exclude using gist (tstzrange(starts_at, ends_at) with &&),
    constraint uq_epoch_number unique (number)
);

-- What one provider earned in one epoch: a range of the transfers of its payable account.
create table earning (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    epoch_id uuid not null,
    provider_id uuid not null,
    after_transfer_id bigint not null,
    upto_transfer_id bigint not null,
    gross_nano_usd bigint not null,
    clawback_nano_usd bigint not null,
    holdback_nano_usd bigint not null,
    matures_at timestamp with time zone,
    released_at timestamp with time zone,
    unpaid_reason varchar(32),
    constraint pk_earning primary key (id),
    constraint uq_earning_provider_id_epoch_id unique (provider_id, epoch_id),
    constraint ck_earning_range_goes_on check (after_transfer_id >= 0 and upto_transfer_id >= after_transfer_id),
    constraint ck_earning_not_negative
        check (gross_nano_usd >= 0 and clawback_nano_usd >= 0 and holdback_nano_usd >= 0),
    constraint ck_earning_holdback_of_earnings
        check (holdback_nano_usd <= greatest(gross_nano_usd - clawback_nano_usd, 0)),
    constraint ck_earning_holdback_matures
        check ((holdback_nano_usd = 0) = (matures_at is null) and (released_at is null or matures_at is not null)),
    constraint fk_earning_epoch_id_epoch foreign key (epoch_id) references epoch (id) on delete restrict,
    constraint fk_earning_provider_id_provider foreign key (provider_id) references provider (id) on delete restrict,
    constraint ck_earning_unpaidreason
        check (unpaid_reason in (
            'no_wallet', 'wallet_cooling_down', 'wallet_unusable', 'suspended', 'flagged_usage', 'below_minimum', 'balance_owed'
        ))
);
create index ix_earning_epoch_id on earning (epoch_id);
create index ix_earning_maturing on earning (matures_at) where matures_at is not null and released_at is null;

create table provider_trust (
    provider_id uuid not null,
    score smallint not null,
    reason varchar not null,
    set_by uuid,
    set_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_provider_trust primary key (provider_id),
    constraint ck_provider_trust_score_in_range check (score between 0 and 100),
    constraint ck_provider_trust_has_reason check (length(reason) between 1 and 500),
    constraint fk_provider_trust_provider_id_provider
        foreign key (provider_id) references provider (id) on delete restrict,
    constraint fk_provider_trust_set_by_user foreign key (set_by) references "user" (id) on delete restrict
);

create table payout_policy (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    version bigint not null,
    minimum_micro_usdc bigint not null,
    batch_cap_micro_usdc bigint not null,
    day_cap_micro_usdc bigint not null,
    four_eyes_above_micro_usdc bigint not null,
    epoch_hours integer not null,
    holdback_bands jsonb not null,
    reason varchar not null,
    created_by uuid,
    constraint pk_payout_policy primary key (id),
    constraint ck_payout_policy_version_positive check (version > 0),
    constraint ck_payout_policy_minimum_positive check (minimum_micro_usdc > 0),
    constraint ck_payout_policy_caps_in_order
        check (batch_cap_micro_usdc > 0 and day_cap_micro_usdc >= batch_cap_micro_usdc),
    constraint ck_payout_policy_four_eyes_not_negative check (four_eyes_above_micro_usdc >= 0),
    constraint ck_payout_policy_epoch_up_to_a_month check (epoch_hours between 1 and 744),
    constraint ck_payout_policy_bands_are_a_list
        check (jsonb_typeof(holdback_bands) = 'array' and jsonb_array_length(holdback_bands) between 1 and 20),
    constraint ck_payout_policy_has_reason check (length(reason) between 1 and 500),
    constraint uq_payout_policy_version unique (version),
    constraint fk_payout_policy_created_by_user foreign key (created_by) references "user" (id) on delete restrict
);

create table payout_switch (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    source varchar(32) not null,
    paused_at timestamp with time zone not null default clock_timestamp(),
    paused_by uuid,
    reason varchar not null,
    resumed_at timestamp with time zone,
    resumed_by uuid,
    resumed_reason varchar,
    constraint pk_payout_switch primary key (id),
    constraint ck_payout_switch_has_reason check (length(reason) between 1 and 500),
    constraint ck_payout_switch_admin_is_named check (source <> 'admin' or paused_by is not null),
    constraint ck_payout_switch_resumed_as_a_whole
        check ((resumed_at is null) = (resumed_reason is null)
            and (resumed_by is null or resumed_at is not null)
            and length(resumed_reason) between 1 and 500),
    constraint ck_payout_switch_switchsource check (source in ('admin', 'reconciliation')),
    constraint fk_payout_switch_paused_by_user foreign key (paused_by) references "user" (id) on delete restrict,
    constraint fk_payout_switch_resumed_by_user foreign key (resumed_by) references "user" (id) on delete restrict
);
create unique index uq_payout_switch_standing on payout_switch (source) where resumed_at is null;

-- What people review and approve.
create table payout_batch (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    number bigint generated always as identity,
    kind varchar(32) not null,
    epoch_id uuid,
    mint varchar not null,
    state varchar(32) not null default 'planned',
    total_micro_usdc bigint not null,
    payees integer not null,
    created_by uuid,
    hold_reason varchar,
    split_from uuid,
    approved_at timestamp with time zone,
    finished_at timestamp with time zone,
    constraint pk_payout_batch primary key (id),
    constraint ck_payout_batch_earnings_have_epoch check ((kind = 'earnings') = (epoch_id is not null)),
    constraint ck_payout_batch_mint_is_address check (mint ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$'),
    constraint ck_payout_batch_pays_somebody check (total_micro_usdc > 0 and payees > 0),
    constraint ck_payout_batch_held_has_reason check ((state = 'held') = (hold_reason is not null)),
    constraint ck_payout_batch_hold_reason_length check (length(hold_reason) between 1 and 500),
    constraint ck_payout_batch_approved_has_time
        check ((state not in ('approved', 'sending', 'finalized') or approved_at is not null)
            and (state not in ('planned', 'reviewed') or approved_at is null)),
    constraint ck_payout_batch_finished_has_time
        check ((state in ('finalized', 'cancelled')) = (finished_at is not null)),
    constraint uq_payout_batch_number unique (number),
    constraint ck_payout_batch_batchkind check (kind in ('earnings', 'deposit_refund')),
    constraint fk_payout_batch_epoch_id_epoch foreign key (epoch_id) references epoch (id) on delete restrict,
    constraint ck_payout_batch_batchstate
        check (state in ('planned', 'reviewed', 'approved', 'sending', 'finalized', 'held', 'cancelled')),
    constraint fk_payout_batch_created_by_user foreign key (created_by) references "user" (id) on delete restrict,
    constraint fk_payout_batch_split_from_payout_batch
        foreign key (split_from) references payout_batch (id) on delete restrict
);
create index ix_payout_batch_approved_at on payout_batch (approved_at) where approved_at is not null;
create index ix_payout_batch_epoch_id on payout_batch (epoch_id);
create index ix_payout_batch_state_id on payout_batch (state, id);

create table payout_approval (
    batch_id uuid not null,
    user_id uuid not null,
    decided_at timestamp with time zone not null default clock_timestamp(),
    total_micro_usdc bigint not null,
    constraint pk_payout_approval primary key (batch_id, user_id),
    constraint ck_payout_approval_total_positive check (total_micro_usdc > 0),
    constraint fk_payout_approval_batch_id_payout_batch
        foreign key (batch_id) references payout_batch (id) on delete restrict,
    constraint fk_payout_approval_user_id_user foreign key (user_id) references "user" (id) on delete restrict
);

-- What one transaction pays.
create table payout_part (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    batch_id uuid not null,
    position integer not null,
    generation integer not null default 0,
    state varchar(32) not null default 'planned',
    state_reason varchar,
    total_micro_usdc bigint not null,
    marker varchar,
    attempts integer not null default 0,
    signature varchar,
    slot bigint,
    fee_lamports bigint,
    finalized_at timestamp with time zone,
    marker_reclaimed_at timestamp with time zone,
    fence bigint not null default 0,
    locked_until timestamp with time zone,
    constraint pk_payout_part primary key (id),
    constraint uq_payout_part_batch_id_position unique (batch_id, position),
    constraint uq_payout_part_batch_id_id unique (batch_id, id),
    constraint ck_payout_part_counts_not_negative
        check (position >= 0 and generation >= 0 and attempts >= 0 and fence >= 0),
    constraint ck_payout_part_total_positive check (total_micro_usdc > 0),
    constraint ck_payout_part_chain_not_negative check (fee_lamports >= 0 and slot >= 0),
    constraint ck_payout_part_marker_is_address check (marker ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$'),
    constraint ck_payout_part_state_reason_length check (length(state_reason) between 1 and 500),
    constraint ck_payout_part_finalized_has_time check (state <> 'finalized' or finalized_at is not null),
    constraint ck_payout_part_reclaimed_after_final check (marker_reclaimed_at is null or finalized_at is not null),
    constraint fk_payout_part_batch_id_payout_batch
        foreign key (batch_id) references payout_batch (id) on delete restrict,
    constraint ck_payout_part_partstate
        check (state in ('planned', 'signed', 'submitted', 'finalized', 'failed', 'held', 'waiting_funds'))
);
create index ix_payout_part_open on payout_part (id)
    where state in ('planned', 'signed', 'submitted', 'waiting_funds');
create index ix_payout_part_signature on payout_part (signature) where signature is not null;

-- One payee.
create table payout_item (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    batch_id uuid not null,
    part_id uuid,
    position integer not null,
    provider_id uuid,
    deposit_id uuid,
    epoch_id uuid,
    wallet varchar not null,
    token_account varchar not null,
    amount_micro_usdc bigint not null,
    state varchar(32) not null default 'planned',
    reason varchar,
    constraint pk_payout_item primary key (id),
    constraint uq_payout_item_batch_id_position unique (batch_id, position),
    constraint fk_payout_item_batch_id_part_id_payout_part
        foreign key (batch_id, part_id) references payout_part (batch_id, id) on delete restrict,
    constraint ck_payout_item_position_not_negative check (position >= 0),
    constraint ck_payout_item_amount_positive check (amount_micro_usdc > 0),
    constraint ck_payout_item_one_payee check ((provider_id is null) <> (deposit_id is null)),
    constraint ck_payout_item_provider_has_epoch check ((provider_id is null) = (epoch_id is null)),
    constraint ck_payout_item_addresses
        check (wallet ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$' and token_account ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$'),
    constraint ck_payout_item_reason_length check (length(reason) between 1 and 500),
    constraint ck_payout_item_quarantined_has_reason check (state <> 'quarantined' or reason is not null),
    constraint fk_payout_item_batch_id_payout_batch
        foreign key (batch_id) references payout_batch (id) on delete restrict,
    constraint fk_payout_item_provider_id_provider
        foreign key (provider_id) references provider (id) on delete restrict,
    constraint fk_payout_item_epoch_id_epoch foreign key (epoch_id) references epoch (id) on delete restrict,
    constraint ck_payout_item_itemstate check (state in ('planned', 'paid', 'quarantined', 'returned'))
);
create index ix_payout_item_epoch_id on payout_item (epoch_id);
create index ix_payout_item_part_id on payout_item (part_id);
create index ix_payout_item_provider_id_id on payout_item (provider_id, id);
create unique index uq_payout_item_deposit on payout_item (deposit_id) where state <> 'returned';
create unique index uq_payout_item_provider_epoch on payout_item (provider_id, epoch_id) where state <> 'returned';

-- One signed transaction of a part, committed before it is broadcast.
create table payout_attempt (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    part_id uuid not null,
    number integer not null,
    generation integer not null,
    signature varchar not null,
    raw_transaction bytea not null,
    version smallint not null,
    blockhash varchar not null,
    last_valid_block_height bigint not null,
    compute_unit_limit integer not null,
    priority_fee_lamports bigint not null,
    state varchar(32) not null default 'live',
    error varchar,
    resolved_at timestamp with time zone,
    constraint pk_payout_attempt primary key (id),
    constraint uq_payout_attempt_part_id_number unique (part_id, number),
    constraint ck_payout_attempt_counts_in_range
        check (number > 0 and generation >= 0 and version >= 0 and last_valid_block_height >= 0
            and compute_unit_limit > 0 and priority_fee_lamports >= 0),
    constraint ck_payout_attempt_raw_transaction_length check (length(raw_transaction) between 1 and 4096),
    constraint ck_payout_attempt_resolved_has_time check ((state = 'live') = (resolved_at is null)),
    constraint fk_payout_attempt_part_id_payout_part
        foreign key (part_id) references payout_part (id) on delete restrict,
    constraint uq_payout_attempt_signature unique (signature),
    constraint ck_payout_attempt_attemptstate check (state in ('live', 'landed', 'failed', 'expired'))
);
create index ix_payout_attempt_live on payout_attempt (part_id) where state = 'live';

-- The rules that hold until people set others: 1 USDC at least, 50,000 a batch, 100,000 a day, two people above 10,000,
-- weekly; a tenth is kept back for a week, more of who is trusted less.
insert into payout_policy (
    id, version, minimum_micro_usdc, batch_cap_micro_usdc, day_cap_micro_usdc, four_eyes_above_micro_usdc, epoch_hours,
    holdback_bands, reason
) values (
    gen_random_uuid(), 1, 1000000, 50000000000, 100000000000, 10000000000, 168,
    '[{"trust_min": 0, "basis_points": 2500, "days": 14}, {"trust_min": 40, "basis_points": 1000, "days": 7},'
    ' {"trust_min": 80, "basis_points": 500, "days": 3}]',
    'what a new market starts with'
);

-- Nothing of this is deleted, and a version of the policy is not changed.
revoke delete on
    epoch, earning, provider_trust, payout_switch, payout_batch, payout_approval, payout_part, payout_item, payout_attempt
from raymart_runtime;
revoke update, delete on payout_policy from raymart_runtime;

-- A provider sees what it earned and how it was paid; the API does not show it what else a batch or a part pays.
do $$
declare
    c_providers constant text := 'provider_id = any ((select tenant_providers())::uuid[])';
    v_table text;
begin
    perform tenant_isolate('epoch', 'true');
    perform tenant_isolate('earning', c_providers);
    perform tenant_isolate('payout_item', c_providers);
    perform tenant_isolate('payout_batch', 'exists (select from payout_item i where i.batch_id = payout_batch.id)');
    perform tenant_isolate('payout_part', 'exists (select from payout_item i where i.part_id = payout_part.id)');
    foreach v_table in array array[
        'provider_trust', 'payout_policy', 'payout_switch', 'payout_approval', 'payout_attempt'
    ] loop
        perform tenant_isolate(v_table::regclass);
    end loop;
end $$;
