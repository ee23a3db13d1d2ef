-- Credit leases, budgets, and usage posted from leases.
--
-- A lease is money that one gateway process may spend for one spender (an organization and the budgets that apply): one
-- open hold of the ledger, key `lease:<id>:<generation>`. A hold resolves once, so whatever changes its size (taking
-- more, giving back, posting usage) resolves the current hold and opens the next generation in one statement: the
-- account's CHECK sees the net effect, and the sum of all leases can never exceed the balance.
--
-- Locks, in this order everywhere: accounts by id, then leases by id, then budget periods by (budget, start). Whoever
-- opens, resizes or closes a lease, or changes an organization's budgets or block, locks its accounts first: they are
-- the organization's mutex, so what is read after them is what holds.
--
-- Times are the database's, and none ends a lease alone: the sweeper voids one only past `expires_at` AND while its
-- gateway's session lock is free, so that neither a clock that jumps nor a lost connection takes money from under a
-- running request.
--
-- These tables are written by the functions below only: each has the name `lease_writer` in its search path, and the
-- guards refuse any other statement. There is no such schema. A setting of our own would say it more plainly, but a
-- function can be given one by a superuser only, and an owner on a managed server is none. The runtime's roles get no
-- write grants on them either.

create table gateway (
    id uuid not null,
    number integer generated always as identity,
    started_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_gateway primary key (id),
    constraint uq_gateway_number unique (number)
);

create table credit_lease (
    id uuid not null,
    gateway_id uuid not null,
    organization_id uuid not null,
    single_use boolean not null,
    step integer not null default 0,
    granted bigint not null default 0,
    generation integer not null default 0,
    transfer_id bigint,
    held bigint not null default 0,
    charged bigint not null default 0,
    taken_at timestamp with time zone not null default clock_timestamp(),
    expires_at timestamp with time zone not null,
    ends_at timestamp with time zone,
    recalled_at timestamp with time zone,
    returned_at timestamp with time zone,
    closed_at timestamp with time zone,
    constraint pk_credit_lease primary key (id),
    constraint ck_credit_lease_not_negative check (held >= 0 and charged >= 0 and granted >= 0),
    constraint ck_credit_lease_held_is_a_hold check ((held = 0) = (transfer_id is null)),
    constraint ck_credit_lease_closed_holds_nothing check (closed_at is null or held = 0)
) with (fillfactor = 70);
create unique index uq_credit_lease_transfer_id on credit_lease (transfer_id) where transfer_id is not null;
create index ix_credit_lease_open_gateway_id on credit_lease (gateway_id) where closed_at is null;
create index ix_credit_lease_open_organization_id on credit_lease (organization_id) where closed_at is null;
create index ix_credit_lease_closed_at on credit_lease (closed_at) where closed_at is not null;

create table budget (
    id uuid not null,
    organization_id uuid not null,
    scope varchar(32) not null,
    scope_id uuid not null,
    period varchar(32) not null,
    limit_nano_usd bigint not null,
    actor_id uuid,
    created_at timestamp with time zone not null default clock_timestamp(),
    updated_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_budget primary key (id),
    constraint uq_budget_scope_scope_id_period unique (scope, scope_id, period),
    constraint ck_budget_budgetscope check (scope in ('organization', 'project', 'api_key')),
    constraint ck_budget_budgetperiodkind check (period in ('daily', 'monthly', 'lifetime')),
    constraint ck_budget_organization_is_scope check (scope <> 'organization' or scope_id = organization_id),
    constraint ck_budget_limit_positive check (limit_nano_usd > 0)
);
create index ix_budget_organization_id on budget (organization_id);

create table budget_period (
    budget_id uuid not null,
    starts_on date not null,
    spent bigint not null default 0,
    reserved bigint not null default 0,
    constraint pk_budget_period primary key (budget_id, starts_on),
    constraint fk_budget_period_budget_id_budget foreign key (budget_id) references budget (id) on delete cascade,
    constraint ck_budget_period_not_negative check (spent >= 0 and reserved >= 0)
) with (fillfactor = 70);

create table lease_budget (
    lease_id uuid not null,
    budget_id uuid not null,
    starts_on date not null,
    constraint pk_lease_budget primary key (lease_id, budget_id),
    constraint fk_lease_budget_lease_id_credit_lease
        foreign key (lease_id) references credit_lease (id) on delete cascade,
    constraint fk_lease_budget_budget_id_budget_period
        foreign key (budget_id, starts_on) references budget_period (budget_id, starts_on) on delete cascade
);
create index ix_lease_budget_budget_id_starts_on on lease_budget (budget_id, starts_on);

create table billing_block (
    organization_id uuid not null,
    reason varchar not null,
    actor_id uuid,
    created_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_billing_block primary key (organization_id),
    constraint ck_billing_block_reason_length check (length(reason) between 1 and 500)
);

alter table usage_record add column lease_id uuid;


-- Guards ---------------------------------------------------------------------------------------------------------

create function lease_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = tg_op || ' on ' || tg_table_name || ' is refused: leases, budgets and blocks are written by their'
            || ' functions only';
end $$;

do $$
declare
    v_table text;
begin
    foreach v_table in array array['gateway', 'credit_lease', 'budget', 'budget_period', 'lease_budget', 'billing_block']
    loop
        execute format(
            'create trigger refuse_direct_change before insert or update or delete on %I for each statement'
            ' when (current_setting(''search_path'') <> ''public, lease_writer, pg_temp'')'
            ' execute function lease_refuse()', v_table);
        execute format(
            'create trigger refuse_truncate before truncate on %I for each statement execute function lease_refuse()',
            v_table);
    end loop;
end $$;


-- The hold of a lease begins, changes and ends with its lease: resolved by other means, its lease would count on money
-- that is gone, and the statement that gives it back would fail for ever.
create function lease_refuse_holds() returns trigger
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_key text;
begin
    select n.key into v_key
      from inserted n left join transfer h on h.id = n.pending_id
     where n.key like 'lease:%' or h.key like 'lease:%'
     limit 1;
    if found then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_transfer_lease_writes_it', table = 'transfer',
            message = 'transfer ' || v_key || ' is refused: only its lease writes or resolves a hold with a lease''s key',
            hint = 'return the lease (lease_return), or let it expire (lease_expire)';
    end if;
    return null;
end $$;
create trigger apply_3_lease_holds after insert on transfer
    referencing new table as inserted for each statement
    when (current_setting('search_path') <> 'public, lease_writer, pg_temp')
    execute function lease_refuse_holds();


-- Gateways -------------------------------------------------------------------------------------------------------

-- Make a gateway process known. Returns its number; its session then takes `pg_advisory_lock(gateway_lock_class(),
-- number)` and keeps it for as long as the process lives.
create function gateway_register(p_gateway uuid) returns integer
language plpgsql security definer set search_path = public, lease_writer, pg_temp as $$
declare
    v_number integer;
begin
    insert into gateway (id) values (p_gateway) on conflict (id) do nothing;
    select number into strict v_number from gateway where id = p_gateway;
    return v_number;
end $$;

create function gateway_lock_class() returns integer language sql immutable parallel safe as $$ select 7201 $$;

-- Whether a session holds the gateway's lock. Looks only, and takes nothing: a gateway that comes back is not in its way.
create function gateway_is_alive(p_gateway uuid) returns boolean
language sql stable security definer set search_path = public, pg_temp as $$
    select exists (
        select from pg_locks l
          join gateway g on g.id = p_gateway and l.objid::bigint = g.number
         where l.locktype = 'advisory' and l.classid::bigint = gateway_lock_class() and l.objsubid = 2 and l.granted
           and l.database = (select oid from pg_database where datname = current_database())
    )
$$;


-- Budgets and blocks ---------------------------------------------------------------------------------------------

-- The first day (UTC) of the period that `p_at` lies in.
create function budget_starts_on(p_period text, p_at timestamp with time zone) returns date
language sql immutable parallel safe as $$
    select case p_period
        when 'daily' then (p_at at time zone 'utc')::date
        when 'monthly' then date_trunc('month', p_at at time zone 'utc')::date
        else date '1970-01-01'
    end
$$;

-- When that period is over; null for one that never is.
create function budget_ends_at(p_period text, p_starts_on date) returns timestamp with time zone
language sql immutable parallel safe as $$
    select case p_period
        when 'daily' then (p_starts_on + 1)::timestamp at time zone 'utc'
        when 'monthly' then (p_starts_on + interval '1 month') at time zone 'utc'
    end
$$;

-- Lock what an organization's money hangs on; nothing when it never had any.
create function lease_lock_organization(p_organization uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform ledger_lock_accounts(array(
        select id from ledger_account
         where asset = 'usd' and kind in ('customer_balance', 'usage_clearing') and owner_id = p_organization
    ));
end $$;

-- Ask every gateway to give back what it does not need of the organization's leases. Returns how many were asked.
-- Who listens to `credit_lease_recall` hears at once, at the commit; the others see it when they renew.
create function lease_recall(p_organization uuid) returns integer
language plpgsql security definer set search_path = public, lease_writer, pg_temp as $$
declare
    v_recalled integer;
begin
    perform 1 from credit_lease
      where organization_id = p_organization and closed_at is null and not single_use and recalled_at is null
      order by id for no key update;
    update credit_lease set recalled_at = clock_timestamp()
     where organization_id = p_organization and closed_at is null and not single_use and recalled_at is null;
    get diagnostics v_recalled = row_count;
    perform pg_notify('credit_lease_recall', p_organization::text);
    return v_recalled;
end $$;

-- Set the limit of a scope and period. Returns the budget's id: the standing one's if there is one. Open leases are
-- recalled, so that what is reserved beyond the new limit comes back within seconds.
create function budget_set(
    p_id uuid, p_organization uuid, p_scope text, p_scope_id uuid, p_period text, p_limit bigint, p_actor uuid
) returns uuid
language plpgsql security definer set search_path = public, lease_writer, pg_temp as $$
declare
    v_id uuid;
begin
    perform lease_lock_organization(p_organization);
    perform lease_recall(p_organization);
    insert into budget as b (id, organization_id, scope, scope_id, period, limit_nano_usd, actor_id)
    values (p_id, p_organization, p_scope, p_scope_id, p_period, p_limit, p_actor)
    on conflict (scope, scope_id, period) do update
        set limit_nano_usd = excluded.limit_nano_usd, actor_id = excluded.actor_id, updated_at = clock_timestamp()
        where b.organization_id = excluded.organization_id
    returning id into strict v_id;
    return v_id;
end $$;

-- Forget a budget and what was counted for it. Returns whether there was one.
create function budget_remove(p_id uuid, p_organization uuid) returns boolean
language plpgsql security definer set search_path = public, lease_writer, pg_temp as $$
declare
    v_removed integer;
begin
    perform lease_lock_organization(p_organization);
    perform lease_recall(p_organization);
    perform 1 from budget_period where budget_id = p_id order by starts_on for update;
    delete from budget where id = p_id and organization_id = p_organization;
    get diagnostics v_removed = row_count;
    return v_removed > 0;
end $$;

-- The budgets that a request of this project and key counts against.
create function budgets_of(p_organization uuid, p_project uuid, p_api_key uuid) returns setof budget
language sql stable security definer set search_path = public, pg_temp as $$
    select * from budget
     where organization_id = p_organization
       and ((scope = 'organization' and scope_id = p_organization) or (scope = 'project' and scope_id = p_project)
            or (scope = 'api_key' and scope_id = p_api_key))
     order by id
$$;

-- Refuse the organization new leases until it is lifted, and call back those it has.
create function billing_block_set(p_organization uuid, p_reason text, p_actor uuid) returns void
language plpgsql security definer set search_path = public, lease_writer, pg_temp as $$
begin
    perform lease_lock_organization(p_organization);
    insert into billing_block as b (organization_id, reason, actor_id) values (p_organization, p_reason, p_actor)
    on conflict (organization_id) do update set reason = excluded.reason, actor_id = excluded.actor_id;
    perform lease_recall(p_organization);
end $$;

-- Returns whether it was blocked.
create function billing_block_lift(p_organization uuid) returns boolean
language plpgsql security definer set search_path = public, lease_writer, pg_temp as $$
declare
    v_lifted integer;
begin
    perform lease_lock_organization(p_organization);
    delete from billing_block where organization_id = p_organization;
    get diagnostics v_lifted = row_count;
    return v_lifted > 0;
end $$;


-- Leases ---------------------------------------------------------------------------------------------------------

-- Make `p_held` what the lease holds. The caller holds the locks of its accounts and of its row.
create function lease_resize(p_lease uuid, p_held bigint, p_code text) returns void
language plpgsql security definer set search_path = public, lease_writer, pg_temp as $$
declare
    v_lease credit_lease;
    v_balance bigint;
    v_clearing bigint;
    v_next bigint;
begin
    select * into strict v_lease from credit_lease where id = p_lease;
    if v_lease.held = p_held then
        return;
    end if;
    select max(id) filter (where kind = 'customer_balance'), max(id) filter (where kind = 'usage_clearing')
      into strict v_balance, v_clearing
      from ledger_account
     where asset = 'usd' and kind in ('customer_balance', 'usage_clearing') and owner_id = v_lease.organization_id;
    with moved as (
        insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, pending_id, expires_at)
        select leg.*
          from (values
            ('lease:' || p_lease || ':' || v_lease.generation || ':voided', v_balance, v_clearing, v_lease.held, p_code,
             'voided', v_lease.transfer_id, null::timestamp with time zone),
            ('lease:' || p_lease || ':' || v_lease.generation + 1, v_balance, v_clearing, p_held, 'usage_hold',
             'pending', null, v_lease.expires_at)
          ) leg (key, debit, credit, amount, code, state, pending_id, expires_at)
         where leg.amount > 0
        returning id, state
    )
    select max(id) filter (where state = 'pending') into v_next from moved;
    update credit_lease set held = p_held, transfer_id = v_next, generation = generation + (p_held > 0)::integer
     where id = p_lease;
    perform 1 from budget_period p join lease_budget b on b.budget_id = p.budget_id and b.starts_on = p.starts_on
      where b.lease_id = p_lease order by p.budget_id, p.starts_on for no key update of p;
    update budget_period p set reserved = p.reserved + p_held - v_lease.held
      from lease_budget b
     where b.lease_id = p_lease and p.budget_id = b.budget_id and p.starts_on = b.starts_on;
end $$;

-- How many other leases of the organization may give something back when they are recalled. One that was asked more
-- than a second ago and did not answer is not waited for: its gateway is gone, and the sweeper will see to it.
create function lease_elsewhere(p_organization uuid, p_but uuid) returns bigint
language sql stable security definer set search_path = public, pg_temp as $$
    select count(*) from credit_lease
     where organization_id = p_organization and closed_at is null and not single_use and id <> p_but
       and returned_at is null and coalesce(recalled_at > clock_timestamp() - interval '1 second', true)
$$;

create function lease_refuse_balance(p_organization uuid, p_lease uuid, p_needed bigint, p_available bigint)
returns void language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'check_violation', constraint = 'lease_within_balance', table = 'credit_lease',
        message = 'a lease of ' || p_needed || ' exceeds the ' || p_available || ' that is available',
        detail = json_build_object('available', p_available, 'elsewhere', lease_elsewhere(p_organization, p_lease));
end $$;

-- Open a lease for a spender, or enlarge the gateway's own. At least `p_needed` is granted, at most `p_wanted`, and of
-- a lease that is not for a single request at most 1/`p_share` of what is available, so that no gateway hoards the last
-- of a balance. Returns what was granted now, how long the lease is good for, and the budgets it counts against.
--
-- `p_step` numbers what a gateway does with a lease: 1 opens it. A repeat of the last step has no further effect.
-- Refusals, by the name of the constraint: lease_not_blocked, lease_within_balance, lease_within_budget (their details
-- say the figures), lease_within_share (per request it may yet be had), lease_is_open (it was recalled or closed).
create function lease_take(
    p_lease uuid, p_step integer, p_gateway uuid, p_organization uuid, p_project uuid, p_api_key uuid,
    p_needed bigint, p_wanted bigint, p_share integer, p_ttl interval, p_single_use boolean
) returns table (granted bigint, left_s double precision, budgets uuid[])
language plpgsql security definer set search_path = public, lease_writer, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    v_lease credit_lease;
    v_balance ledger_account;
    v_available bigint;
    v_headroom bigint;
    v_short record;
    v_granted bigint;
begin
    if p_needed < 1 or p_wanted < p_needed or p_share < 1
       or not (p_ttl > interval '0' and p_ttl <= interval '1 day') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'a lease needs at least 1, wants at least that, and lives for more than 0 s and at most 1 day';
    end if;
    if exists (select from billing_block where organization_id = p_organization) then
        raise exception using
            errcode = 'check_violation', constraint = 'lease_not_blocked', table = 'credit_lease',
            message = 'organization ' || p_organization || ' is blocked';
    end if;
    -- A look before any lock spares the account's row the queue of those that are hopeless.
    select * into v_balance from ledger_account
     where asset = 'usd' and kind = 'customer_balance' and owner_id = p_organization;
    v_available := coalesce(v_balance.credits_posted - v_balance.debits_posted - v_balance.debits_pending, 0);
    if v_available < p_needed and not exists (select from credit_lease where id = p_lease) then
        perform lease_refuse_balance(p_organization, p_lease, p_needed, v_available);
    end if;

    perform lease_lock_organization(p_organization);
    select * into v_lease from credit_lease where id = p_lease for no key update;
    if found and v_lease.gateway_id = p_gateway and v_lease.step = p_step and v_lease.closed_at is null then
        v_granted := v_lease.granted;
    else
        if v_lease.id is not null and (
            v_lease.gateway_id <> p_gateway or v_lease.step <> p_step - 1 or v_lease.organization_id <> p_organization
            or v_lease.closed_at is not null or v_lease.recalled_at is not null or v_lease.single_use
            or v_lease.ends_at <= clock_timestamp()
        ) then
            raise exception using
                errcode = 'check_violation', constraint = 'lease_is_open', table = 'credit_lease',
                message = 'lease ' || p_lease || ' was recalled or closed';
        end if;
        if v_lease.id is null then
            insert into credit_lease (id, gateway_id, organization_id, single_use, expires_at)
            values (p_lease, p_gateway, p_organization, p_single_use, clock_timestamp() + p_ttl);
            insert into budget_period (budget_id, starts_on)
            select id, budget_starts_on(period, clock_timestamp())
              from budgets_of(p_organization, p_project, p_api_key)
            on conflict do nothing;
            insert into lease_budget (lease_id, budget_id, starts_on)
            select p_lease, id, budget_starts_on(period, clock_timestamp())
              from budgets_of(p_organization, p_project, p_api_key);
        end if;
        -- The account's lock keeps others from these budgets' periods too: the figures stand until we commit.
        select b.scope, b.scope_id, b.period, b.limit_nano_usd, p.spent, p.reserved,
               b.limit_nano_usd - p.spent - p.reserved as headroom,
               min(budget_ends_at(b.period, p.starts_on)) over () as ends_at
          into v_short
          from lease_budget l
          join budget b on b.id = l.budget_id
          join budget_period p on p.budget_id = l.budget_id and p.starts_on = l.starts_on
         where l.lease_id = p_lease
         order by headroom, b.id limit 1;
        select credits_posted - debits_posted - debits_pending into v_available
          from ledger_account where id = v_balance.id;
        v_headroom := least(v_available, v_short.headroom);
        if v_short.headroom < p_needed then
            raise exception using
                errcode = 'check_violation', constraint = 'lease_within_budget', table = 'credit_lease',
                message = 'a lease of ' || p_needed || ' exceeds the ' || v_short.period || ' budget of '
                    || v_short.scope || ' ' || v_short.scope_id,
                detail = json_build_object(
                    'scope', v_short.scope, 'scope_id', v_short.scope_id, 'period', v_short.period,
                    'limit', v_short.limit_nano_usd, 'spent', v_short.spent, 'reserved', v_short.reserved,
                    'elsewhere', lease_elsewhere(p_organization, p_lease)
                );
        elsif v_available < p_needed then
            perform lease_refuse_balance(p_organization, p_lease, p_needed, v_available);
        elsif not p_single_use and v_headroom / p_share < p_needed then
            raise exception using
                errcode = 'check_violation', constraint = 'lease_within_share', table = 'credit_lease',
                message = 'a lease of ' || p_needed || ' exceeds 1/' || p_share || ' of the ' || v_headroom
                    || ' that is available';
        end if;
        v_granted := case when p_single_use then p_needed else least(p_wanted, v_headroom / p_share) end;
        update credit_lease
           set step = p_step, granted = v_granted, expires_at = clock_timestamp() + p_ttl,
               ends_at = coalesce(v_short.ends_at, ends_at)
         where id = p_lease;
        perform lease_resize(p_lease, coalesce(v_lease.held, 0) + v_granted, 'hold_released');
    end if;
    return query
    select v_granted, extract(epoch from least(l.expires_at, l.ends_at) - clock_timestamp())::double precision,
           array(select b.budget_id from lease_budget b where b.lease_id = l.id order by b.budget_id)
      from credit_lease l where l.id = p_lease;
end $$;

-- Keep all open leases of a gateway alive, and say how each stands.
create function lease_renew(p_gateway uuid, p_ttl interval)
returns table (
    lease_id uuid, step integer, held bigint, charged bigint, is_recalled boolean, is_single_use boolean,
    left_s double precision
)
language plpgsql security definer set search_path = public, lease_writer, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
    return query
    with standing as (
        select id from credit_lease where gateway_id = p_gateway and closed_at is null order by id for no key update
    )
    update credit_lease l set expires_at = clock_timestamp() + p_ttl
      from standing
     where l.id = standing.id
    returning l.id, l.step, l.held, l.charged, l.recalled_at is not null, l.single_use,
              extract(epoch from least(l.expires_at, l.ends_at) - clock_timestamp())::double precision;
end $$;

-- Give back `p_amounts` of leases, or all with `p_closes`, each once by its step. A recalled lease has then answered.
-- Returns how many changed.
create function lease_return(
    p_gateway uuid, p_leases uuid[], p_steps integer[], p_amounts bigint[], p_closes boolean[]
) returns integer
language plpgsql security definer set search_path = public, lease_writer, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_given record;
    v_changed integer := 0;
begin
    perform ledger_lock_accounts(array(
        select a.id from ledger_account a
         where a.asset = 'usd' and a.kind in ('customer_balance', 'usage_clearing')
           and a.owner_id in (select organization_id from credit_lease where id = any(p_leases))
    ));
    perform 1 from credit_lease where id = any(p_leases) order by id for no key update;
    for v_given in
        -- One step of a lease, should a call name it twice: the second would work on what the first has changed.
        select distinct on (l.id) l.id, l.held, g.step, g.amount, g.closes
          from unnest(p_leases, p_steps, p_amounts, p_closes) g (id, step, amount, closes)
          join credit_lease l on l.id = g.id
         where l.gateway_id = p_gateway and l.closed_at is null and g.step > l.step and g.amount >= 0
         order by l.id, g.step
    loop
        perform lease_resize(
            v_given.id, case when v_given.closes then 0 else greatest(v_given.held - v_given.amount, 0) end,
            'hold_released'
        );
        update credit_lease
           set step = v_given.step, granted = 0,
               returned_at = case when recalled_at is not null then clock_timestamp() end,
               closed_at = case when v_given.closes then clock_timestamp() end
         where id = v_given.id;
        v_changed := v_changed + 1;
    end loop;
    return v_changed;
end $$;

-- Void up to `p_limit` leases that are past their time and whose gateway is gone. Returns how many were voided, and those
-- that the ledger refused to void, which only an edit behind the guards can bring about: they are passed over, for an
-- operator to look at (`raymart ledger verify` names them), and tried again `p_retry` from now, so that they neither
-- stop the others nor crowd them out. After a restart of the server every gateway's lock is free until it is back:
-- `p_grace` counts from then.
create function lease_expire(p_limit integer, p_grace interval, p_retry interval default interval '10 minutes')
returns table (expired integer, broken uuid[], refusals text[])
language plpgsql security definer set search_path = public, lease_writer, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_leases uuid[];
    v_lease record;
begin
    expired := 0;
    if pg_postmaster_start_time() + p_grace > clock_timestamp() then
        return next;
        return;
    end if;
    v_leases := array(
        select id from credit_lease
         where closed_at is null and expires_at <= clock_timestamp() and not gateway_is_alive(gateway_id)
         order by expires_at limit p_limit
    );
    perform ledger_lock_accounts(array(
        select a.id from ledger_account a
         where a.asset = 'usd' and a.kind in ('customer_balance', 'usage_clearing')
           and a.owner_id in (select organization_id from credit_lease where id = any(v_leases))
    ));
    perform 1 from credit_lease where id = any(v_leases) order by id for no key update;
    -- It may have been renewed or closed while we waited.
    for v_lease in
        select id from credit_lease
         where id = any(v_leases) and closed_at is null and expires_at <= clock_timestamp() order by id
    loop
        begin
            perform lease_resize(v_lease.id, 0, 'hold_expired');
            update credit_lease set closed_at = clock_timestamp() where id = v_lease.id;
            expired := expired + 1;
        exception when integrity_constraint_violation or no_data_found then
            broken := broken || v_lease.id;
            refusals := refusals || sqlerrm;
            update credit_lease set expires_at = clock_timestamp() + p_retry where id = v_lease.id;
        end;
    end loop;
    return next;
end $$;

-- Forget leases that were closed more than `p_age` ago, and gateways long gone. Returns how many leases.
create function lease_prune(p_limit integer, p_age interval) returns integer
language plpgsql security definer set search_path = public, lease_writer, pg_temp as $$
declare
    v_pruned integer;
begin
    delete from credit_lease where id in (
        select id from credit_lease where closed_at < clock_timestamp() - p_age order by closed_at limit p_limit
           for update skip locked
    );
    get diagnostics v_pruned = row_count;
    delete from gateway g
     where started_at < clock_timestamp() - p_age and not gateway_is_alive(g.id)
       and not exists (select from credit_lease l where l.gateway_id = g.id and l.closed_at is null);
    return v_pruned;
end $$;


-- Usage ----------------------------------------------------------------------------------------------------------

-- Void up to `p_limit` holds whose time is over by the database's clock. Returns how many. The hold of a lease is not
-- meant: that ends with its lease. A row lock on `open_hold` would be taken here before the accounts' and elsewhere
-- after them, so none is taken: a hold that another session resolves meanwhile is passed over.
create or replace function ledger_expire_holds(p_limit integer) returns integer
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
    return ledger_void_holds(array(
        select h.key
          from (
            select o.transfer_id from open_hold o
             where o.expires_at <= clock_timestamp()
               and not exists (select from credit_lease l where l.transfer_id = o.transfer_id)
             order by o.expires_at limit p_limit
          ) due
          join transfer h on h.id = due.transfer_id
    ), 'hold_expired');
end $$;

drop function ledger_capture_usage(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[]);

-- Turn up to 1,000 usages into money, once each: customer -> clearing -> provider and platform.
--
-- What a usage's lease covers is captured from it: the lease's hold resolves for the sum of its usages here, and what is
-- left of it is the lease's next generation (of a single-use lease it is given back, and the lease is closed). A usage
-- without a lease captures the hold named after it, if there is one. What is not covered (lease or hold had expired, or
-- were smaller) is debited from the balance if that covers it, a customer's smallest usage first, and is otherwise the
-- platform's loss: the provider has delivered and is paid in full. What the customer paid moves from reserved to spent
-- in the budgets of the lease, also when the lease is closed by now. `p_charges` = earnings + fees.
-- Returns what was posted, by code.
create function ledger_capture_usage(
    p_requests uuid[], p_organizations uuid[], p_providers uuid[], p_charges bigint[], p_earnings bigint[],
    p_fees bigint[], p_leases uuid[] default null
) returns table (code text, transfers bigint, amount bigint)
language plpgsql security definer set search_path = public, lease_writer, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    v_leases uuid[] := coalesce(p_leases, array_fill(null::uuid, array[cardinality(p_requests)]));
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
    perform 1 from credit_lease where id = any(v_leases) order by id for no key update;
    perform 1 from budget_period p join lease_budget b on b.budget_id = p.budget_id and b.starts_on = p.starts_on
      where b.lease_id = any(v_leases) order by p.budget_id, p.starts_on for no key update of p;

    -- From here on this call is alone with these accounts, and sees what everybody did to them before.
    return query
    with usage as (
        select u.*, balance.id as balance, clearing.id as clearing, payable.id as payable,
               l.id as leased, l.generation, l.expires_at, l.single_use,
               coalesce(l.transfer_id, o.transfer_id) as hold,
               case when l.id is not null then l.held when o.transfer_id is null then 0 else h.amount end as held,
               -- What the usages of one lease draw on together, and every other usage alone.
               coalesce(l.id, u.request) as source,
               balance.credits_posted - balance.debits_posted - balance.debits_pending as available
          from unnest(p_requests, p_organizations, p_providers, p_charges, p_earnings, p_fees, v_leases)
               u (request, organization, provider, charge, earning, fee, lease)
          join ledger_account balance on balance.asset = 'usd' and balance.kind = 'customer_balance'
           and balance.owner_id = u.organization
          join ledger_account clearing on clearing.asset = 'usd' and clearing.kind = 'usage_clearing'
           and clearing.owner_id = u.organization
          join ledger_account payable on payable.asset = 'usd' and payable.kind = 'provider_payable'
           and payable.owner_id = u.provider
          left join credit_lease l on l.id = u.lease and l.organization_id = u.organization
          left join transfer h on u.lease is null and h.key = 'hold:' || u.request and h.state = 'pending'
          left join open_hold o on o.transfer_id = h.id
         where not exists (
            select from transfer t
             where t.key = any(array[
                'usage:' || u.request || ':captured', 'usage:' || u.request || ':uncovered',
                'usage:' || u.request || ':earning', 'usage:' || u.request || ':fee'
             ])
         )
    ), drawn as (
        select usage.*, sum(charge) over (partition by source order by request) as drawn_by_now,
               row_number() over (partition by source order by request) = 1 as is_first
          from usage
    ), covered as (
        select drawn.*, greatest(least(charge, held - (drawn_by_now - charge)), 0)::bigint as covered from drawn
    ), split as (
        select covered.*, charge - covered as uncovered, sum(covered) over (partition by source)::bigint as captured
          from covered
    ), settled as (
        select split.*,
               case when not is_first then 0 when leased is null or single_use then held else captured end as resolved
          from split
    ), judged as (
        select settled.*,
               sum(uncovered) over (partition by balance order by uncovered, request)
               <= available + sum(case when resolved > 0 then resolved - captured else 0 end)
                              over (partition by balance) as is_affordable
          from settled
    ), posted as (
        insert into transfer (
            key, debit_account_id, credit_account_id, amount, code, state, pending_id, expires_at
        )
        select leg.key, leg.debit, leg.credit, leg.amount, leg.code, leg.state, leg.pending_id, leg.expires_at
          from judged j
          cross join (
            select max(id) filter (where kind = 'platform_fee') as fee,
                   max(id) filter (where kind = 'platform_loss') as loss
              from ledger_account
             where asset = 'usd' and kind in ('platform_fee', 'platform_loss') and owner_id is null
          ) platform
          cross join lateral (
            select case when leased is null then 'hold:' || request else 'lease:' || leased || ':' || generation end
                   as hold_key
          ) named
          cross join lateral (values
            (1, case when leased is null then 'usage:' || request || ':captured' else hold_key || ':posted' end,
                balance, clearing, case when is_first then captured else 0 end, 'usage_charge', 'posted', hold,
                null::timestamp with time zone),
            (1, hold_key || ':voided', balance, clearing,
                case when is_first and captured = 0 and (leased is null or single_use) then held else 0 end,
                'hold_released', 'voided', hold, null),
            (2, 'lease:' || leased || ':' || generation + 1, balance, clearing,
                case when is_first and not single_use and captured > 0 then held - captured else 0 end,
                'usage_hold', 'pending', null::bigint, j.expires_at),
            (3, 'usage:' || request || ':uncovered', case when is_affordable then balance else platform.loss end,
                clearing, uncovered, case when is_affordable then 'usage_charge' else 'usage_shortfall' end, 'posted',
                null, null),
            (4, 'usage:' || request || ':earning', clearing, payable, earning, 'usage_earning', 'posted', null, null),
            (5, 'usage:' || request || ':fee', clearing, platform.fee, j.fee, 'usage_fee', 'posted', null, null)
          ) leg (position, key, debit, credit, amount, code, state, pending_id, expires_at)
         where leg.amount > 0
         order by j.request, leg.position
        returning transfer.code, transfer.amount, transfer.state
    ), of_lease as (
        select leased, sum(resolved)::bigint as resolved, sum(charge)::bigint as charged,
               (max(captured) + sum(case when is_affordable then uncovered else 0 end))::bigint as paid
          from judged where leased is not null group by leased
    ), reduced as (
        update credit_lease l
           set held = l.held - s.resolved, charged = l.charged + s.charged,
               transfer_id = case when l.held > s.resolved then l.transfer_id end,
               generation = l.generation + (s.resolved between 1 and l.held - 1)::integer,
               closed_at = case when l.single_use then coalesce(l.closed_at, clock_timestamp()) else l.closed_at end
          from of_lease s
         where l.id = s.leased
    ), counted as (
        update budget_period p set reserved = p.reserved - s.resolved, spent = p.spent + s.paid
          from (
            select b.budget_id, b.starts_on, sum(s.resolved)::bigint as resolved, sum(s.paid)::bigint as paid
              from of_lease s join lease_budget b on b.lease_id = s.leased group by b.budget_id, b.starts_on
          ) s
         where p.budget_id = s.budget_id and p.starts_on = s.starts_on
    )
    select posted.code::text, count(*), sum(posted.amount)::bigint
      from posted where posted.state <> 'pending' group by posted.code;

    -- The id of a lease's next hold is known only now.
    update credit_lease l set transfer_id = t.id
      from transfer t
     where l.id = any(v_leases) and l.held > 0 and t.key = 'lease:' || l.id || ':' || l.generation
       and t.id <> l.transfer_id;
end $$;

revoke execute on function
    lease_refuse(), lease_refuse_holds(), gateway_register(uuid), gateway_is_alive(uuid), lease_lock_organization(uuid), lease_recall(uuid),
    budget_set(uuid, uuid, text, uuid, text, bigint, uuid), budget_remove(uuid, uuid), budgets_of(uuid, uuid, uuid),
    billing_block_set(uuid, text, uuid), billing_block_lift(uuid), lease_resize(uuid, bigint, text),
    lease_elsewhere(uuid, uuid), lease_refuse_balance(uuid, uuid, bigint, bigint),
    lease_take(uuid, integer, uuid, uuid, uuid, uuid, bigint, bigint, integer, interval, boolean),
    lease_renew(uuid, interval), lease_return(uuid, uuid[], integer[], bigint[], boolean[]),
    lease_expire(integer, interval, interval), lease_prune(integer, interval),
    ledger_capture_usage(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[], uuid[])
from public;
