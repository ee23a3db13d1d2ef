-- What shows that the books are true: which accounts each code may move money between, reversals, daily snapshots,
-- and seals that somebody who owns the database cannot make again.

-- Columns --------------------------------------------------------------------------------------------------------

alter table transfer
    -- The transaction that wrote the row, as pg_current_xact_id() counts. Everything below the oldest running transaction
    -- is decided for good, so "settled" is a comparison: sealer and snapshots need no lock on writers.
    add column xact_id bigint not null default pg_current_xact_id()::text::bigint,
    add column reverses_id bigint,
    add column reason varchar,
    add constraint ck_transfer_reversal_names_its_transfer check ((code = 'reversal') = (reverses_id is not null)),
    add constraint ck_transfer_reversal_has_reason check (code <> 'reversal' or reason is not null),
    add constraint ck_transfer_reason_length check (length(reason) between 1 and 500);
create index ix_transfer_xact_id_id on transfer (xact_id, id);
-- A transfer is reversed at most once.
create unique index uq_transfer_reverses_id on transfer (reverses_id) where reverses_id is not null;


-- Codes ----------------------------------------------------------------------------------------------------------

-- Each code moves money from one kind of account to another, in one state. A reversal mirrors its transfer instead.
create table transfer_code (
    code varchar(32) not null,
    debit_kind varchar(32),
    credit_kind varchar(32),
    state varchar(32) not null,
    asset varchar(32) not null,
    -- Whether both accounts, when both have an owner, must have the same one. Only an earning passes between owners.
    one_owner boolean not null,
    constraint pk_transfer_code primary key (code),
    constraint ck_transfer_code_kinds_but_for_reversal check (
        (debit_kind is null) = (code = 'reversal') and (credit_kind is null) = (code = 'reversal')
    )
);
insert into transfer_code (code, debit_kind, credit_kind, state, asset, one_owner)
select code, debit_kind, credit_kind,
       case when code = 'usage_hold' then 'pending' when code in ('hold_released', 'hold_expired') then 'voided'
            else 'posted' end,
       'usd', code not in ('usage_earning', 'reversal')
  from (values
    ('credit_grant', 'promotional_credit', 'customer_balance'),
    ('credit_expired', 'customer_balance', 'promotional_credit'),
    ('usage_hold', 'customer_balance', 'usage_clearing'),
    ('usage_charge', 'customer_balance', 'usage_clearing'),
    ('usage_shortfall', 'platform_loss', 'usage_clearing'),
    ('usage_earning', 'usage_clearing', 'provider_payable'),
    ('usage_fee', 'usage_clearing', 'platform_fee'),
    ('hold_released', 'customer_balance', 'usage_clearing'),
    ('hold_expired', 'customer_balance', 'usage_clearing'),
    ('refund', 'platform_refund', 'customer_balance'),
    ('refund_clawback', 'provider_payable', 'platform_refund'),
    ('refund_fee', 'platform_fee', 'platform_refund'),
    ('adjustment_credit', 'platform_refund', 'customer_balance'),
    ('adjustment_debit', 'customer_balance', 'platform_revenue'),
    ('deposit_card', 'external_card', 'customer_balance'),
    ('deposit_usdc', 'external_usdc', 'customer_balance'),
    ('deposit_refund', 'customer_balance', 'external_card'),
    ('payment_fee', 'payment_cost', 'external_card'),
    ('dispute_opened', 'customer_balance', 'customer_dispute'),
    ('dispute_shortfall', 'customer_receivable', 'customer_dispute'),
    ('dispute_won', 'customer_dispute', 'customer_balance'),
    ('dispute_lost', 'customer_dispute', 'external_card'),
    ('receivable_settled', 'customer_balance', 'customer_receivable'),
    ('receivable_written_off', 'platform_loss', 'customer_receivable'),
    ('reserve_kept', 'provider_payable', 'provider_reserve'),
    ('reserve_released', 'provider_reserve', 'provider_payable'),
    ('payout_sent', 'provider_payable', 'payout_clearing'),
    ('payout_settled', 'payout_clearing', 'external_usdc'),
    ('payout_returned', 'payout_clearing', 'provider_payable'),
    ('reversal', null, null)
  ) rule (code, debit_kind, credit_kind);
create trigger refuse_change before insert or update or delete or truncate on transfer_code
    for each statement execute function ledger_refuse();

create or replace function ledger_check_inserted() returns trigger
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_key text;
    v_fits boolean;
    v_is_foreign boolean;
    v_resolves boolean;
    v_reverses boolean;
begin
    select bool_or(xact_id <> pg_current_xact_id()::text::bigint), bool_or(pending_id is not null),
           bool_or(reverses_id is not null)
      into v_is_foreign, v_resolves, v_reverses
      from inserted;
    if v_is_foreign then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_transfer_is_of_its_transaction', table = 'transfer',
            message = 'a transfer carries the transaction that writes it: nothing is added to the past';
    end if;

    -- In place of foreign keys, for the whole statement at once; accounts are never deleted. Of each kind of movement
    -- between two accounts one row is enough.
    select moved.key, d.id is not null and c.id is not null and d.asset = c.asset
      into v_key, v_fits
      from (
        select min(key) as key, debit_account_id, credit_account_id, code, state
          from inserted group by debit_account_id, credit_account_id, code, state
      ) moved
      left join ledger_account d on d.id = moved.debit_account_id
      left join ledger_account c on c.id = moved.credit_account_id
      left join transfer_code rule on rule.code = moved.code
     where (
        d.asset = c.asset and rule.state = moved.state
        and (rule.debit_kind is null or (
            d.kind = rule.debit_kind and c.kind = rule.credit_kind and d.asset = rule.asset
            and (not rule.one_owner or d.owner_id = c.owner_id or d.owner_id is null or c.owner_id is null)
        ))
     ) is not true
     limit 1;
    if found and not v_fits then
        raise exception using
            errcode = 'foreign_key_violation', table = 'transfer',
            message = 'transfer ' || v_key || ' needs two open accounts of one asset';
    elsif found then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_transfer_fits_its_code', table = 'transfer',
            message = 'transfer ' || v_key || ' does not fit its code',
            hint = 'table transfer_code says which kinds of account each code moves money between, and in which state';
    end if;

    if v_resolves then
        select n.key into v_key
          from inserted n
          left join transfer h on h.id = n.pending_id
         where n.pending_id is not null
           and (h.id is null or h.state <> 'pending' or n.amount > h.amount
                or (n.state = 'voided' and n.amount <> h.amount)
                or n.debit_account_id <> h.debit_account_id or n.credit_account_id <> h.credit_account_id)
         limit 1;
        if found then
            raise exception using
                errcode = 'check_violation', constraint = 'ck_transfer_fits_its_hold', table = 'transfer',
                message = 'transfer ' || v_key || ' does not fit its hold: same accounts, and at most the amount held';
        end if;
    end if;

    if v_reverses then
        select n.key into v_key
          from inserted n
          left join transfer o on o.id = n.reverses_id
         where n.reverses_id is not null
           and (o.id is null or o.state <> 'posted' or o.code = 'reversal' or o.amount <> n.amount
                or n.debit_account_id <> o.credit_account_id or n.credit_account_id <> o.debit_account_id)
         limit 1;
        if found then
            raise exception using
                errcode = 'check_violation', constraint = 'ck_transfer_mirrors_what_it_reverses', table = 'transfer',
                message = 'transfer ' || v_key || ' is not the mirror of a posted transfer that is no reversal itself';
        end if;
    end if;
    return null;
end $$;

-- Post 1 to 1,000 transfers, as 0002 says.
create or replace function ledger_post_batch(
    p_keys text[], p_debits bigint[], p_credits bigint[], p_amounts bigint[], p_codes text[], p_actor_id uuid default null
) returns integer
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_size integer := cardinality(p_keys);
    v_new integer;
    v_key text;
begin
    if v_size not between 1 and 1000
       or array[cardinality(p_debits), cardinality(p_credits), cardinality(p_amounts), cardinality(p_codes)]
          <> array[v_size, v_size, v_size, v_size] then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'a batch is 1 to 1000 transfers in arrays of one length, not ' || v_size;
    end if;

    perform ledger_lock_accounts(p_debits || p_credits);
    -- Nearly every batch is all new: then a plain INSERT spares the second look and the confirmation per row of ON CONFLICT.
    -- Whoever posts the same movements has the same accounts locked; another movement with one of these keys, written
    -- in the same instant, is refused by the unique index as below.
    if not exists (select from transfer where key = any(p_keys))
       and (select count(distinct w.key) from unnest(p_keys) w (key)) = v_size then
        insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, actor_id)
        select w.key, w.debit, w.credit, w.amount, w.code, 'posted', p_actor_id
          from unnest(p_keys, p_debits, p_credits, p_amounts, p_codes)
               with ordinality w (key, debit, credit, amount, code, position)
         order by w.position;
        return v_size;
    end if;

    insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, actor_id)
    select w.key, w.debit, w.credit, w.amount, w.code, 'posted', p_actor_id
      from unnest(p_keys, p_debits, p_credits, p_amounts, p_codes)
           with ordinality w (key, debit, credit, amount, code, position)
     order by w.position
    on conflict (key) do nothing;
    get diagnostics v_new = row_count;

    if v_new < v_size then
        select w.key into v_key
          from unnest(p_keys, p_debits, p_credits, p_amounts, p_codes) w (key, debit, credit, amount, code)
          join transfer t on t.key = w.key
         where (t.debit_account_id, t.credit_account_id, t.amount, t.code, t.state, t.pending_id)
               is distinct from (w.debit, w.credit, w.amount, w.code, 'posted', null::bigint)
         limit 1;
        if found then
            perform ledger_refuse_key(v_key);
        end if;
    end if;
    return v_new;
end $$;

-- Undo 1 to 1,000 posted transfers by their mirrors, in one statement: the parts of one usage can only go back together.
-- A transfer that was reversed for the same reason by the same actor is skipped. Returns how many were reversed now.
create function ledger_reverse(p_transfer_ids bigint[], p_reason text, p_actor_id uuid) returns integer
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_size integer := cardinality(p_transfer_ids);
    v_accounts bigint[];
    v_id bigint;
    v_new integer;
begin
    if v_size not between 1 and 1000 then
        raise exception using
            errcode = 'invalid_parameter_value', message = '1 to 1000 transfers are reversed at once, not ' || v_size;
    end if;
    select w.id into v_id
      from unnest(p_transfer_ids) w (id) left join transfer t on t.id = w.id where t.id is null limit 1;
    if found then
        raise exception using errcode = 'no_data_found', message = 'there is no transfer ' || v_id;
    end if;
    select array_agg(debit_account_id) || array_agg(credit_account_id) into v_accounts
      from transfer where id = any(p_transfer_ids);
    perform ledger_lock_accounts(v_accounts);

    -- Now nobody else can reverse these. A hold or void among them is refused by the check of the statement.
    insert into transfer (
        key, debit_account_id, credit_account_id, amount, code, state, actor_id, reverses_id, reason
    )
    select 'reversal:' || o.id, o.credit_account_id, o.debit_account_id, o.amount, 'reversal', 'posted', p_actor_id,
           o.id, p_reason
      from transfer o
     where o.id = any(p_transfer_ids) and not exists (select from transfer r where r.reverses_id = o.id)
     order by o.id;
    get diagnostics v_new = row_count;

    select r.reverses_id into v_id
      from transfer r
     where r.reverses_id = any(p_transfer_ids)
       and (r.reason, r.actor_id) is distinct from (p_reason, p_actor_id)
     limit 1;
    if found then
        raise exception using
            errcode = 'unique_violation', constraint = 'uq_transfer_reverses_id', table = 'transfer',
            message = 'transfer ' || v_id || ' was reversed before, by somebody else or for another reason';
    end if;
    return v_new;
end $$;


-- Snapshots ------------------------------------------------------------------------------------------------------

create table ledger_snapshot (
    day date not null,
    taken_at timestamp with time zone not null default clock_timestamp(),
    -- A pg_snapshot as text: which transactions this snapshot has seen. Transfers of all others came after it.
    horizon varchar not null,
    constraint pk_ledger_snapshot primary key (day)
);

-- An account's columns as they were at the snapshot of `day`; only of accounts that had changed since their last row.
create table account_snapshot (
    account_id bigint not null,
    day date not null,
    debits_posted bigint not null,
    credits_posted bigint not null,
    debits_pending bigint not null,
    credits_pending bigint not null,
    constraint pk_account_snapshot primary key (account_id, day)
);
create index ix_account_snapshot_day on account_snapshot (day);

-- Keep all balances of this moment as those of today (UTC, by the database's clock). Returns the day, or null when it has
-- its snapshot. Locks no account: columns and transfers are of the one moment that a statement sees.
create function ledger_take_snapshot() returns date
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_day date := (clock_timestamp() at time zone 'UTC')::date;
begin
    if exists (select from transfer where xact_id = pg_current_xact_id()::text::bigint) then
        raise exception using
            errcode = 'invalid_transaction_state',
            message = 'a snapshot is taken in a transaction that has posted nothing';
    end if;
    -- One statement, one moment: a statement under READ COMMITTED sees what `pg_current_snapshot` says.
    with header as (
        insert into ledger_snapshot (day, horizon) values (v_day, pg_current_snapshot()::text)
        on conflict (day) do nothing
        returning day
    ), accounts as (
        insert into account_snapshot (account_id, day, debits_posted, credits_posted, debits_pending, credits_pending)
        select a.id, header.day, a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending
          from header
          cross join ledger_account a
          left join lateral (
            select * from account_snapshot s where s.account_id = a.id order by s.day desc limit 1
          ) last on true
         where (a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending)
               <> (coalesce(last.debits_posted, 0), coalesce(last.credits_posted, 0),
                   coalesce(last.debits_pending, 0), coalesce(last.credits_pending, 0))
    )
    select day into v_day from header;
    return v_day; -- Null where the day had its snapshot: `select into` found no row.
end $$;

-- What a check of the books found, one row a check: the newest row that is not sound is the alarm.
create table ledger_check (
    id bigint generated always as identity,
    kind varchar(32) not null,
    checked_at timestamp with time zone not null default clock_timestamp(),
    duration_ms bigint not null,
    findings bigint not null,
    -- The first that was found, in words; null when there is none.
    finding varchar,
    constraint pk_ledger_check primary key (id),
    constraint ck_ledger_check_ledgercheckkind check (kind in ('reconcile', 'verify', 'seal')),
    constraint ck_ledger_check_finding_is_named check ((findings > 0) = (finding is not null)),
    constraint ck_ledger_check_findings_not_negative check (findings >= 0 and duration_ms >= 0)
);


-- Seals ----------------------------------------------------------------------------------------------------------

-- A chain over all transfers in the order in which they became certain. `hash` covers the hash before it and every column
-- of the transfer, under a key that the database does not have.
create table transfer_seal (
    position bigint not null,
    transfer_id bigint not null,
    hash bytea not null,
    constraint pk_transfer_seal primary key (position),
    constraint uq_transfer_seal_transfer_id unique (transfer_id),
    constraint ck_transfer_seal_position_positive check (position > 0),
    constraint ck_transfer_seal_hash_is_sha256 check (length(hash) = 32)
);

-- Append seals after position `p_after`. Returns the new last position, or null when another sealer was there first.
create function ledger_seal(p_after bigint, p_transfer_ids bigint[], p_hashes bytea[]) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if cardinality(p_transfer_ids) is distinct from cardinality(p_hashes) or cardinality(p_hashes) = 0 then
        raise exception using
            errcode = 'invalid_parameter_value', message = 'seals are 1 or more transfers and as many hashes';
    end if;
    -- One sealer at a time; nobody else takes this lock.
    perform pg_advisory_xact_lock(7240002);
    if coalesce((select max(position) from transfer_seal), 0) <> p_after then
        return null;
    end if;
    insert into transfer_seal (position, transfer_id, hash)
    select p_after + n, w.transfer_id, w.hash
      from unnest(p_transfer_ids, p_hashes) with ordinality w (transfer_id, hash, n);
    return p_after + cardinality(p_hashes);
end $$;

create trigger refuse_change before update or delete or truncate on ledger_snapshot
    for each statement execute function ledger_refuse();
create trigger refuse_change before update or delete or truncate on account_snapshot
    for each statement execute function ledger_refuse();
create trigger refuse_change before update or delete or truncate on ledger_check
    for each statement execute function ledger_refuse();
create trigger refuse_change before update or delete or truncate on transfer_seal
    for each statement execute function ledger_refuse();

revoke execute on function
    ledger_reverse(bigint[], text, uuid), ledger_take_snapshot(), ledger_seal(bigint, bigint[], bytea[])
from public;
