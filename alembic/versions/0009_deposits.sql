-- Deposits by card, disputes, granted credit that ends, corrections and alerts.

create table deposit (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    rail varchar(32) not null,
    state varchar(32) not null,
    amount_nano_usd bigint not null,
    idempotency_key varchar not null,
    created_by uuid,
    expires_at timestamp with time zone not null,
    session_id varchar,
    session_url varchar,
    payment_id varchar,
    received_amount bigint,
    received_currency varchar,
    paid_at timestamp with time zone,
    failed_reason varchar,
    expired_at timestamp with time zone,
    held_reason varchar,
    review_reason varchar,
    reviewed_by uuid,
    credited_nano_usd bigint not null default 0,
    credited_at timestamp with time zone,
    refunded_nano_usd bigint not null default 0,
    fee_nano_usd bigint,
    fee_due boolean not null default false,
    checked_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_deposit primary key (id),
    constraint uq_deposit_organization_id_idempotency_key unique (organization_id, idempotency_key),
    constraint ck_deposit_amount_positive check (amount_nano_usd > 0),
    constraint ck_deposit_not_negative check (credited_nano_usd >= 0 and refunded_nano_usd >= 0),
    constraint ck_deposit_refunded_at_most_credited check (refunded_nano_usd <= credited_nano_usd),
    constraint ck_deposit_credited_when check ((credited_at is null) = (credited_nano_usd = 0)),
    constraint ck_deposit_paid_before_credited check (credited_at is null or paid_at is not null),
    constraint ck_deposit_key_length check (length(idempotency_key) between 1 and 128),
    constraint fk_deposit_organization_id_organization foreign key (organization_id) references organization (id) on delete restrict,
    constraint ck_deposit_depositrail check (rail in ('card', 'usdc')),
    constraint ck_deposit_depositstate check (state in ('created', 'pending', 'succeeded', 'credited', 'failed', 'expired', 'refunded', 'disputed')),
    constraint fk_deposit_created_by_user foreign key (created_by) references "user" (id) on delete restrict,
    constraint fk_deposit_reviewed_by_user foreign key (reviewed_by) references "user" (id) on delete restrict,
    constraint uq_deposit_session_id unique (session_id),
    constraint uq_deposit_payment_id unique (payment_id)
);
create index ix_deposit_held on deposit (id) where held_reason is not null;
create index ix_deposit_organization_id_id on deposit (organization_id, id);
create index ix_deposit_unsettled on deposit (checked_at) where state in ('created', 'pending') or fee_due;

create table card_payment (
    id varchar not null,
    charge_id varchar,
    currency varchar not null,
    refunded_amount bigint not null default 0,
    fee_amount bigint,
    updated_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_card_payment primary key (id),
    constraint ck_card_payment_not_negative check (refunded_amount >= 0 and fee_amount >= 0)
);

create table deposit_refund (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    deposit_id uuid not null,
    origin varchar(32) not null,
    state varchar(32) not null,
    amount_nano_usd bigint not null,
    shortfall_nano_usd bigint not null default 0,
    idempotency_key varchar not null,
    reason varchar not null,
    actor_id uuid,
    provider_id varchar,
    failed_reason varchar,
    constraint pk_deposit_refund primary key (id),
    constraint uq_deposit_refund_deposit_id_idempotency_key unique (deposit_id, idempotency_key),
    constraint ck_deposit_refund_amount_positive check (amount_nano_usd > 0),
    constraint ck_deposit_refund_shortfall_fits check (shortfall_nano_usd between 0 and amount_nano_usd),
    constraint ck_deposit_refund_reason_length check (length(reason) between 1 and 500),
    constraint fk_deposit_refund_deposit_id_deposit foreign key (deposit_id) references deposit (id) on delete restrict,
    constraint ck_deposit_refund_refundorigin check (origin in ('platform', 'processor')),
    constraint ck_deposit_refund_refundstate check (state in ('requested', 'succeeded', 'failed')),
    constraint fk_deposit_refund_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict,
    constraint uq_deposit_refund_provider_id unique (provider_id)
);
create index ix_deposit_refund_requested on deposit_refund (id) where state = 'requested';

create table dispute (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    provider_id varchar not null,
    payment_id varchar not null,
    charge_id varchar not null,
    amount bigint not null,
    currency varchar not null,
    status varchar not null,
    stage varchar(32) not null,
    reason varchar not null,
    evidence_due_at timestamp with time zone,
    fee_amount bigint not null default 0,
    organization_id uuid,
    booked varchar(32),
    fee_nano_usd bigint,
    from_balance_nano_usd bigint not null default 0,
    from_receivable_nano_usd bigint not null default 0,
    held_reason varchar,
    constraint pk_dispute primary key (id),
    constraint ck_dispute_amount_positive check (amount > 0),
    constraint ck_dispute_not_negative check (from_balance_nano_usd >= 0 and from_receivable_nano_usd >= 0),
    constraint uq_dispute_provider_id unique (provider_id),
    constraint ck_dispute_disputestage check (stage in ('inquiry', 'open', 'won', 'lost')),
    constraint fk_dispute_organization_id_organization foreign key (organization_id) references organization (id) on delete restrict,
    constraint ck_dispute_disputebooking check (booked in ('opened', 'won', 'lost'))
);
create index ix_dispute_organization_id_id on dispute (organization_id, id);
create index ix_dispute_payment_id on dispute (payment_id);

create table stripe_event (
    id varchar not null,
    type varchar not null,
    object_id varchar not null,
    occurred_at timestamp with time zone not null,
    received_at timestamp with time zone not null default clock_timestamp(),
    fact jsonb,
    state varchar(32) not null,
    detail varchar,
    resolved_by uuid,
    resolution varchar,
    constraint pk_stripe_event primary key (id),
    constraint ck_stripe_event_eventstate check (state in ('received', 'applied', 'ignored', 'review', 'resolved')),
    constraint fk_stripe_event_resolved_by_user foreign key (resolved_by) references "user" (id) on delete restrict
);
create index ix_stripe_event_occurred_at on stripe_event (occurred_at);
create index ix_stripe_event_received on stripe_event (received_at) where state = 'received';
create index ix_stripe_event_review on stripe_event (received_at) where state = 'review';

create table stripe_replay (
    is_only boolean not null default true,
    through_at timestamp with time zone not null,
    constraint pk_stripe_replay primary key (is_only),
    constraint ck_stripe_replay_one_row check (is_only)
);

create table billing_block_change (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    blocked boolean not null,
    reason varchar not null,
    actor_id uuid,
    constraint pk_billing_block_change primary key (id),
    constraint ck_billing_block_change_reason_length check (length(reason) between 1 and 500),
    constraint fk_billing_block_change_organization_id_organization foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_billing_block_change_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict
);
create index ix_billing_block_change_organization_id_id on billing_block_change (organization_id, id);

create table credit_grant (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    transfer_id bigint not null,
    amount_nano_usd bigint not null,
    expires_at timestamp with time zone,
    source varchar(32) not null,
    reason varchar not null,
    actor_id uuid,
    closed_at timestamp with time zone,
    constraint pk_credit_grant primary key (id),
    constraint ck_credit_grant_amount_positive check (amount_nano_usd > 0),
    constraint ck_credit_grant_reason_length check (length(reason) <= 500),
    constraint fk_credit_grant_organization_id_organization foreign key (organization_id) references organization (id) on delete restrict,
    constraint uq_credit_grant_transfer_id unique (transfer_id),
    constraint ck_credit_grant_grantsource check (source in ('admin', 'promotion', 'rule')),
    constraint fk_credit_grant_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict
);
create index ix_credit_grant_due on credit_grant (expires_at) where closed_at is null and expires_at is not null;
create index ix_credit_grant_organization_id_id on credit_grant (organization_id, id);

create table credit_checkpoint (
    organization_id uuid not null,
    through_id bigint not null,
    parts jsonb not null,
    updated_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_credit_checkpoint primary key (organization_id),
    constraint fk_credit_checkpoint_organization_id_organization foreign key (organization_id) references organization (id) on delete restrict
);

create table balance_adjustment (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    transfer_id bigint not null,
    change_nano_usd bigint not null,
    reason varchar not null,
    actor_id uuid not null,
    constraint pk_balance_adjustment primary key (id),
    constraint ck_balance_adjustment_change_not_zero check (change_nano_usd <> 0),
    constraint ck_balance_adjustment_reason_length check (length(reason) between 1 and 500),
    constraint fk_balance_adjustment_organization_id_organization foreign key (organization_id) references organization (id) on delete restrict,
    constraint uq_balance_adjustment_transfer_id unique (transfer_id),
    constraint fk_balance_adjustment_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict
);
create index ix_balance_adjustment_organization_id_id on balance_adjustment (organization_id, id);

create table alert_threshold (
    organization_id uuid not null,
    low_balance_nano_usd bigint not null,
    constraint pk_alert_threshold primary key (organization_id),
    constraint ck_alert_threshold_not_negative check (low_balance_nano_usd >= 0),
    constraint fk_alert_threshold_organization_id_organization foreign key (organization_id) references organization (id) on delete restrict
);

create table alert (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    kind varchar(32) not null,
    subject varchar not null,
    threshold_nano_usd bigint not null,
    value_nano_usd bigint not null,
    cleared_at timestamp with time zone,
    delivered_at timestamp with time zone,
    constraint pk_alert primary key (id),
    constraint fk_alert_organization_id_organization foreign key (organization_id) references organization (id) on delete restrict,
    constraint ck_alert_alertkind check (kind in ('low_balance', 'budget_near', 'budget_exhausted'))
);
create index ix_alert_organization_id_id on alert (organization_id, id);
create index ix_alert_undelivered on alert (id) where delivered_at is null;
create unique index uq_alert_open on alert (organization_id, kind, subject) where cleared_at is null;

-- Guards ---------------------------------------------------------------------------------------------------------

create function deposit_refuse_rewrite() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = tg_op || ' on ' || tg_table_name || ' is refused: what was asked, paid or decided stays as it is',
        hint = 'correct money with a new transfer, and a decision with a new one';
end $$;

-- Whose deposit it is, how much was asked and what was credited: each is written once.
create trigger refuse_rewrite before update on deposit for each row when (
    (old.organization_id, old.rail, old.amount_nano_usd, old.idempotency_key)
    is distinct from (new.organization_id, new.rail, new.amount_nano_usd, new.idempotency_key)
    or (old.credited_at is not null
        and (old.credited_at, old.credited_nano_usd) is distinct from (new.credited_at, new.credited_nano_usd))
    or (old.session_id is not null and old.session_id is distinct from new.session_id)
    or (old.payment_id is not null and old.payment_id is distinct from new.payment_id)
) execute function deposit_refuse_rewrite();
create trigger refuse_removal before delete or truncate on deposit
    for each statement execute function deposit_refuse_rewrite();

-- How much was given and until when: what the history of a balance was folded with must not change behind it.
create trigger refuse_rewrite before update on credit_grant for each row when (
    (old.organization_id, old.transfer_id, old.amount_nano_usd, old.expires_at)
    is distinct from (new.organization_id, new.transfer_id, new.amount_nano_usd, new.expires_at)
) execute function deposit_refuse_rewrite();
create trigger refuse_removal before delete or truncate on credit_grant
    for each statement execute function deposit_refuse_rewrite();

create trigger refuse_change before update or delete or truncate on balance_adjustment
    for each statement execute function deposit_refuse_rewrite();
create trigger refuse_change before update or delete or truncate on billing_block_change
    for each statement execute function deposit_refuse_rewrite();

revoke execute on function deposit_refuse_rewrite() from public;

-- Grants of before: credit without an end.
insert into credit_grant (id, created_at, organization_id, transfer_id, amount_nano_usd, source, reason, actor_id)
select gen_random_uuid(), t.created_at, a.owner_id, t.id, t.amount, 'admin', '', t.actor_id
  from transfer t
  join ledger_account a on a.id = t.credit_account_id
 where t.code = 'credit_grant' and exists (select from organization o where o.id = a.owner_id);
