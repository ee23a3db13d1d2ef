-- The ledger: accounts, immutable transfers, and the only code that may change a balance.
--
-- One row of `transfer` is one movement from a debit account to a credit account, so an unbalanced entry cannot be
-- written down. The statement trigger `ledger_apply` adds every inserted row to the balances of its two accounts;
-- guards refuse each other way to change either table. Whoever inserts, and however: columns and rows agree.
--
-- Locks: accounts before keys, accounts always in id order. Two writers that touch the same accounts, hold or key
-- therefore queue at the first account they share and never wait for each other in a circle.
--
-- Every function pins `search_path` with `pg_temp` last: a temporary table named like ours must not be found first.
-- Those that join many rows also switch off sequential scans and hash joins: a plan is cached per connection, and one
-- made while the tables were small would later read all of them to place a single hold.

create table ledger_account (
    id bigint generated always as identity,
    kind varchar(32) not null,
    owner_id uuid,
    asset varchar(32) not null,
    may_overdraw boolean not null,
    debits_posted bigint not null default 0,
    credits_posted bigint not null default 0,
    debits_pending bigint not null default 0,
    credits_pending bigint not null default 0,
    created_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_ledger_account primary key (id),
    -- "Nulls not distinct": there is one platform_fee account, not one per insert.
    constraint uq_ledger_account_kind_owner_id_asset unique nulls not distinct (kind, owner_id, asset),
    constraint ck_ledger_account_accountkind check (kind in (
        'customer_balance', 'usage_clearing', 'provider_payable', 'platform_fee', 'promotional_credit', 'platform_loss'
    )),
    constraint ck_ledger_account_asset check (asset in ('usd', 'usdc')),
    constraint ck_ledger_account_owner_by_kind check (
        (owner_id is null) = (kind in ('platform_fee', 'promotional_credit', 'platform_loss'))
    ),
    constraint ck_ledger_account_overdraft_by_kind check (
        may_overdraw = (kind in ('promotional_credit', 'platform_loss'))
    ),
    constraint ck_ledger_account_not_negative check (
        debits_posted >= 0 and credits_posted >= 0 and debits_pending >= 0 and credits_pending >= 0
    ),
    constraint ck_ledger_account_no_overdraft check (
        may_overdraw or debits_posted + debits_pending <= credits_posted
    )
) with (fillfactor = 50); -- Room in each page, so that a balance is rewritten there and no index is touched.

create table transfer (
    id bigint generated always as identity,
    key varchar not null,
    debit_account_id bigint not null,
    credit_account_id bigint not null,
    amount bigint not null,
    code varchar(32) not null,
    state varchar(32) not null,
    pending_id bigint,
    expires_at timestamp with time zone,
    actor_id uuid,
    created_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_transfer primary key (id),
    constraint uq_transfer_key unique (key),
    constraint ck_transfer_transfercode check (code in (
        'credit_grant', 'usage_hold', 'usage_charge', 'usage_shortfall', 'usage_earning', 'usage_fee', 'hold_released',
        'hold_expired'
    )),
    constraint ck_transfer_transferstate check (state in ('pending', 'posted', 'voided')),
    constraint ck_transfer_amount_positive check (amount > 0),
    constraint ck_transfer_two_accounts check (debit_account_id <> credit_account_id),
    constraint ck_transfer_key_length check (length(key) between 1 and 255),
    constraint ck_transfer_pending_expires check ((state = 'pending') = (expires_at is not null)),
    constraint ck_transfer_pending_is_first check (state <> 'pending' or pending_id is null),
    constraint ck_transfer_void_has_hold check (state <> 'voided' or pending_id is not null)
);
-- A hold resolves at most once.
create unique index uq_transfer_pending_id on transfer (pending_id) where pending_id is not null;
create index ix_transfer_debit_account_id_id on transfer (debit_account_id, id);
create index ix_transfer_credit_account_id_id on transfer (credit_account_id, id);

-- The holds that are neither posted nor voided: what the sweeper reads instead of all history. Kept by `ledger_apply`.
create table open_hold (
    transfer_id bigint not null,
    expires_at timestamp with time zone not null,
    constraint pk_open_hold primary key (transfer_id)
);
create index ix_open_hold_expires_at on open_hold (expires_at);


-- Guards ---------------------------------------------------------------------------------------------------------

create function ledger_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = tg_op || ' on ' || tg_table_name || ' is refused: the ledger is written by its functions only',
        hint = 'correct a mistake with a new transfer; rows of the past stay as they are';
end $$;

create trigger refuse_change before update or delete or truncate on transfer
    for each statement execute function ledger_refuse();

-- At depth 0 no trigger is running: the statement is somebody's own and not the work of `ledger_apply`.
create trigger refuse_direct_update before update on ledger_account
    for each statement when (pg_trigger_depth() = 0) execute function ledger_refuse();
create trigger refuse_removal before delete or truncate on ledger_account
    for each statement execute function ledger_refuse();
create trigger refuse_opening_balance before insert on ledger_account
    for each row when (
        new.debits_posted <> 0 or new.credits_posted <> 0 or new.debits_pending <> 0 or new.credits_pending <> 0
    ) execute function ledger_refuse();

create trigger refuse_direct_change before insert or update or delete on open_hold
    for each statement when (pg_trigger_depth() = 0) execute function ledger_refuse();
create trigger refuse_truncate before truncate on open_hold
    for each statement execute function ledger_refuse();


-- Balances -------------------------------------------------------------------------------------------------------

create function ledger_lock_accounts(p_ids bigint[]) returns void
language plpgsql security definer set search_path = public, pg_temp set enable_seqscan = off as $$
begin
    -- No key update: a balance is no key, so that readers of the account's key are not held up.
    perform 1 from ledger_account where id = any(p_ids) order by id for no key update;
end $$;

create function ledger_check_inserted() returns trigger
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_key text;
begin
    -- In place of foreign keys, for the whole statement at once; accounts are never deleted.
    select n.key into v_key
      from inserted n
      left join ledger_account d on d.id = n.debit_account_id
      left join ledger_account c on c.id = n.credit_account_id
     where d.id is null or c.id is null or d.asset <> c.asset
        or (n.state = 'pending' and d.owner_id is distinct from c.owner_id)
     limit 1;
    if found then
        raise exception using
            errcode = 'foreign_key_violation', table = 'transfer',
            message = 'transfer ' || v_key || ' needs two open accounts of one asset, and of one owner while pending';
    end if;

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
    return null;
end $$;

create function ledger_apply() returns trigger
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_accounts bigint[];
    v_opens boolean;
    v_resolves boolean;
begin
    select array_agg(debit_account_id) || array_agg(credit_account_id), bool_or(state = 'pending'),
           bool_or(pending_id is not null)
      into v_accounts, v_opens, v_resolves
      from inserted;
    perform ledger_lock_accounts(v_accounts);
    -- One update per touched account, however many transfers touch it: a check sees the statement's net effect.
    update ledger_account a
       set debits_posted = a.debits_posted + moved.debits_posted,
           credits_posted = a.credits_posted + moved.credits_posted,
           debits_pending = a.debits_pending + moved.debits_pending,
           credits_pending = a.credits_pending + moved.credits_pending
      from (
        select side.account_id,
               sum(case when side.is_debit then side.posted else 0 end)::bigint as debits_posted,
               sum(case when side.is_debit then 0 else side.posted end)::bigint as credits_posted,
               sum(case when side.is_debit then side.pending else 0 end)::bigint as debits_pending,
               sum(case when side.is_debit then 0 else side.pending end)::bigint as credits_pending
          from (
            select n.debit_account_id, n.credit_account_id,
                   case when n.state = 'posted' then n.amount else 0 end as posted,
                   -- A resolution gives back all that its hold held; a transfer without a hold has none to give.
                   case when n.state = 'pending' then n.amount else -coalesce(h.amount, 0) end as pending
              from inserted n
              left join transfer h on h.id = n.pending_id
          ) n
          cross join lateral (values
            (n.debit_account_id, true, n.posted, n.pending),
            (n.credit_account_id, false, n.posted, n.pending)
          ) side (account_id, is_debit, posted, pending)
         group by side.account_id
      ) moved
     where a.id = moved.account_id;

    if v_opens then
        insert into open_hold (transfer_id, expires_at)
        select id, expires_at from inserted where state = 'pending';
    end if;
    if v_resolves then
        delete from open_hold o using inserted n where o.transfer_id = n.pending_id;
    end if;
    return null;
end $$;

-- Triggers of one event fire in the order of their names: first the check, then the balances.
create trigger apply_1_check after insert on transfer
    referencing new table as inserted for each statement execute function ledger_check_inserted();
create trigger apply_2_balances after insert on transfer
    referencing new table as inserted for each statement execute function ledger_apply();


-- Writing --------------------------------------------------------------------------------------------------------

-- The account's id, opened if it is new. Platform accounts have no owner.
create function ledger_open_account(p_kind text, p_owner_id uuid, p_asset text) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_id bigint;
begin
    for attempt in 1..2 loop
        select id into v_id from ledger_account
         where kind = p_kind and asset = p_asset
           and (owner_id = p_owner_id or (owner_id is null and p_owner_id is null));
        exit when found;
        insert into ledger_account (kind, owner_id, asset, may_overdraw)
        values (p_kind, p_owner_id, p_asset, p_kind in ('promotional_credit', 'platform_loss'))
        on conflict (kind, owner_id, asset) do nothing
        returning id into v_id;
        exit when found; -- Otherwise another session opened it a moment ago, and the second look finds it.
    end loop;
    return v_id;
end $$;

create function ledger_refuse_key(p_key text) returns void language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'unique_violation', constraint = 'uq_transfer_key', table = 'transfer',
        message = 'key ' || p_key || ' was used before, for another transfer';
end $$;

-- Post 1 to 1,000 transfers. A key that was used for the same transfer is skipped; for another one, all are refused.
-- Returns how many were new.
create function ledger_post_batch(
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

-- Reserve `p_amount` until `p_ttl` from now, or until it is posted or voided. A repeat returns the same hold's id.
create function ledger_hold(
    p_key text, p_debit bigint, p_credit bigint, p_amount bigint, p_code text, p_ttl interval
) returns bigint
language plpgsql security definer set search_path = public, pg_temp set enable_seqscan = off as $$
declare
    v_id bigint;
    v_same boolean;
    v_account ledger_account;
begin
    if not (p_ttl > interval '0' and p_ttl <= interval '1 day') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'a hold lives for more than 0 s and at most 1 day, not ' || p_ttl;
    end if;
    for attempt in 1..2 loop
        select id, (debit_account_id, credit_account_id, amount, code, state)
                   is not distinct from (p_debit, p_credit, p_amount, p_code, 'pending')
          into v_id, v_same
          from transfer where key = p_key;
        if found then
            if not v_same then
                perform ledger_refuse_key(p_key);
            end if;
            return v_id;
        end if;

        select * into v_account from ledger_account where id = p_debit;
        if not found then
            raise exception using
                errcode = 'no_data_found', message = 'the account to be debited by ' || p_key || ' is not open';
        end if;
        -- The account's CHECK decides. This look ahead only spares the tables the dead rows of hopeless holds, which
        -- somebody without funds could make by the million.
        if not v_account.may_overdraw
           and v_account.credits_posted - v_account.debits_posted - v_account.debits_pending < p_amount then
            raise exception using
                errcode = 'check_violation', constraint = 'ck_ledger_account_no_overdraft', table = 'ledger_account',
                message = p_key || ' of ' || p_amount || ' overdraws account ' || p_debit;
        end if;

        perform ledger_lock_accounts(array[p_debit, p_credit]);
        insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, expires_at)
        values (p_key, p_debit, p_credit, p_amount, p_code, 'pending', clock_timestamp() + p_ttl)
        on conflict (key) do nothing
        returning id into v_id;
        exit when found; -- Otherwise a repeat of this call won the race, and the second look finds it.
    end loop;
    return v_id;
end $$;

-- Post `p_amount` of a hold and give the rest back; 0 voids it. Returns the state in which the hold now is ("posted" or
-- "voided", whoever resolved it), or null when there is no such hold. Past its TTL a hold can be posted until swept.
create function ledger_post_hold(p_hold_key text, p_amount bigint, p_code text) returns text
language plpgsql security definer set search_path = public, pg_temp set enable_seqscan = off as $$
declare
    v_hold transfer;
    v_resolution transfer;
begin
    select * into v_hold from transfer where key = p_hold_key and state = 'pending';
    if not found then
        return null;
    end if;
    if p_amount = 0 then
        return ledger_void_hold(p_hold_key);
    end if;
    perform ledger_lock_accounts(array[v_hold.debit_account_id, v_hold.credit_account_id]);
    insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, pending_id)
    select p_hold_key || ':posted', v_hold.debit_account_id, v_hold.credit_account_id, p_amount, p_code, 'posted',
           v_hold.id
     where not exists (select from transfer where pending_id = v_hold.id);

    select * into strict v_resolution from transfer where pending_id = v_hold.id;
    if v_resolution.state = 'posted' and (v_resolution.amount, v_resolution.code) <> (p_amount, p_code) then
        perform ledger_refuse_key(v_resolution.key);
    end if;
    return v_resolution.state;
end $$;

-- Void those of the named holds that are open. Returns how many.
create function ledger_void_holds(p_hold_keys text[], p_code text) returns integer
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_holds bigint[];
    v_accounts bigint[];
    v_voided integer;
begin
    select array_agg(id), array_agg(debit_account_id) || array_agg(credit_account_id) into v_holds, v_accounts
      from transfer where key = any(p_hold_keys) and state = 'pending';
    perform ledger_lock_accounts(v_accounts);
    -- Now nobody else can resolve these, and this statement sees all who did before.
    insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, pending_id)
    select h.key || ':voided', h.debit_account_id, h.credit_account_id, h.amount, p_code, 'voided', h.id
      from open_hold o
      join transfer h on h.id = o.transfer_id
     where o.transfer_id = any(v_holds)
     order by h.id;
    get diagnostics v_voided = row_count;
    return v_voided;
end $$;

-- Void a hold. Returns the state in which it now is, as `ledger_post_hold` does.
create function ledger_void_hold(p_hold_key text) returns text
language plpgsql security definer set search_path = public, pg_temp set enable_seqscan = off as $$
begin
    perform ledger_void_holds(array[p_hold_key], 'hold_released');
    return (
        select r.state from transfer h join transfer r on r.pending_id = h.id
         where h.key = p_hold_key and h.state = 'pending'
    );
end $$;

-- Void up to `p_limit` holds whose time is over by the database's clock. Returns how many. A row lock on `open_hold`
-- would be taken here before the accounts' and elsewhere after them, so none is taken: a hold that another session
-- resolves meanwhile is passed over.
create function ledger_expire_holds(p_limit integer) returns integer
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
    return ledger_void_holds(array(
        select h.key
          from (
            select transfer_id from open_hold where expires_at <= clock_timestamp() order by expires_at limit p_limit
          ) due
          join transfer h on h.id = due.transfer_id
    ), 'hold_expired');
end $$;

-- Turn up to 1,000 usages into money, once each: customer -> clearing -> provider and platform.
--
-- What an open hold covers is captured from it and its rest is given back. What it does not cover (the hold had expired,
-- or was smaller) is debited from the balance if that covers it, a customer's smallest usage first, and is otherwise the
-- platform's loss: the provider has delivered and is paid in full. `p_charges` = earnings + fees.
-- Returns what was posted, by code.
create function ledger_capture_usage(
    p_requests uuid[], p_organizations uuid[], p_providers uuid[], p_charges bigint[], p_earnings bigint[], p_fees bigint[]
) returns table (code text, transfers bigint, amount bigint)
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
    if cardinality(p_requests) not between 1 and 1000 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'a batch is 1 to 1000 usages, not ' || cardinality(p_requests);
    end if;
    insert into ledger_account (kind, owner_id, asset, may_overdraw)
    select wanted.kind, wanted.owner_id, 'usd', false
      from (
        select 'customer_balance' as kind, unnest(p_organizations) as owner_id
        union select 'usage_clearing', unnest(p_organizations)
        union select 'provider_payable', unnest(p_providers)
      ) wanted
     where not exists (
        select from ledger_account a
         where a.kind = wanted.kind and a.owner_id = wanted.owner_id and a.asset = 'usd'
     )
     order by wanted.kind, wanted.owner_id
    on conflict (kind, owner_id, asset) do nothing;

    perform ledger_lock_accounts(array(
        select id from ledger_account
         where asset = 'usd' and kind in ('customer_balance', 'usage_clearing') and owner_id = any(p_organizations)
        union all
        select id from ledger_account
         where asset = 'usd' and kind = 'provider_payable' and owner_id = any(p_providers)
        union all
        select id from ledger_account
         where asset = 'usd' and kind in ('platform_fee', 'platform_loss') and owner_id is null
    ));

    -- From here on this call is alone with these accounts, and sees what everybody did to them before.
    return query
    with usage as (
        select u.*, balance.id as balance, clearing.id as clearing, payable.id as payable,
               o.transfer_id as hold, case when o.transfer_id is null then 0 else h.amount end as held,
               balance.credits_posted - balance.debits_posted - balance.debits_pending as available
          from unnest(p_requests, p_organizations, p_providers, p_charges, p_earnings, p_fees)
               u (request, organization, provider, charge, earning, fee)
          join ledger_account balance on balance.asset = 'usd' and balance.kind = 'customer_balance'
           and balance.owner_id = u.organization
          join ledger_account clearing on clearing.asset = 'usd' and clearing.kind = 'usage_clearing'
           and clearing.owner_id = u.organization
          join ledger_account payable on payable.asset = 'usd' and payable.kind = 'provider_payable'
           and payable.owner_id = u.provider
          left join transfer h on h.key = 'hold:' || u.request and h.state = 'pending'
          left join open_hold o on o.transfer_id = h.id
         where not exists (
            select from transfer t
             where t.key = any(array['usage:' || u.request || ':captured', 'usage:' || u.request || ':uncovered'])
         )
    ), split as (
        select usage.*, least(charge, held) as captured, charge - least(charge, held) as uncovered from usage
    ), judged as (
        select split.*,
               sum(uncovered) over (partition by balance order by uncovered, request)
               <= available + sum(held - captured) over (partition by balance) as is_affordable
          from split
    ), posted as (
        insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, pending_id)
        select leg.key, leg.debit, leg.credit, leg.amount, leg.code, leg.state, leg.pending_id
          from judged j
          cross join (
            select max(id) filter (where kind = 'platform_fee') as fee,
                   max(id) filter (where kind = 'platform_loss') as loss
              from ledger_account
             where asset = 'usd' and kind in ('platform_fee', 'platform_loss') and owner_id is null
          ) platform
          cross join lateral (values
            (1, 'usage:' || request || ':captured', balance, clearing, captured, 'usage_charge', 'posted', hold),
            (1, 'hold:' || request || ':voided', balance, clearing, case when captured = 0 then held else 0 end,
                'hold_released', 'voided', hold),
            (2, 'usage:' || request || ':uncovered', case when is_affordable then balance else platform.loss end,
                clearing, uncovered, case when is_affordable then 'usage_charge' else 'usage_shortfall' end, 'posted',
                null::bigint),
            (3, 'usage:' || request || ':earning', clearing, payable, earning, 'usage_earning', 'posted', null),
            (4, 'usage:' || request || ':fee', clearing, platform.fee, j.fee, 'usage_fee', 'posted', null)
          ) leg (position, key, debit, credit, amount, code, state, pending_id)
         where leg.amount > 0
         order by j.request, leg.position
        returning transfer.code, transfer.amount
    )
    select posted.code::text, count(*), sum(posted.amount)::bigint from posted group by posted.code;
end $$;

-- Nobody but the owner may call these until the roles of the runtime are granted them.
revoke execute on function
    ledger_refuse(), ledger_refuse_key(text), ledger_lock_accounts(bigint[]), ledger_check_inserted(), ledger_apply(),
    ledger_open_account(text, uuid, text),
    ledger_post_batch(text[], bigint[], bigint[], bigint[], text[], uuid),
    ledger_hold(text, bigint, bigint, bigint, text, interval), ledger_post_hold(text, bigint, text),
    ledger_void_holds(text[], text), ledger_void_hold(text), ledger_expire_holds(integer),
    ledger_capture_usage(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[])
from public;

-- The platform's own accounts come first, so that their ids are the lowest and every writer locks them first.
select ledger_open_account(kind, null, 'usd') from unnest(array['platform_fee', 'promotional_credit', 'platform_loss']) kind;
