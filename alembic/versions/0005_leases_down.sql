-- The way back from `0005_leases.sql`: what leases hold is given back first, then the functions of 0002 stand again.

select lease_resize(id, 0, 'hold_released') from credit_lease where closed_at is null and held > 0 order by id;

alter table usage_record drop column lease_id;

drop function ledger_capture_usage(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[], uuid[]);
drop function lease_prune(integer, interval);
drop function lease_expire(integer, interval, interval);
drop function lease_return(uuid, uuid[], integer[], bigint[], boolean[]);
drop function lease_renew(uuid, interval);
drop function lease_take(uuid, integer, uuid, uuid, uuid, uuid, bigint, bigint, integer, interval, boolean);
drop function lease_refuse_balance(uuid, uuid, bigint, bigint);
drop function lease_elsewhere(uuid, uuid);
drop function lease_resize(uuid, bigint, text);
drop function billing_block_lift(uuid);
drop function billing_block_set(uuid, text, uuid);
drop function budgets_of(uuid, uuid, uuid);
drop function budget_remove(uuid, uuid);
drop function budget_set(uuid, uuid, text, uuid, text, bigint, uuid);
drop function lease_recall(uuid);
drop function lease_lock_organization(uuid);
drop function budget_ends_at(text, date);
drop function budget_starts_on(text, timestamp with time zone);
drop function gateway_is_alive(uuid);
drop function gateway_lock_class();
drop function gateway_register(uuid);
drop trigger apply_3_lease_holds on transfer;
drop function lease_refuse_holds();
drop table billing_block;
drop table lease_budget;
drop table budget_period;
drop table budget;
drop table credit_lease;
drop table gateway;
drop function lease_refuse();

-- Void up to `p_limit` holds whose time is over by the database's clock. Returns how many. A row lock on `open_hold`
-- would be taken here before the accounts' and elsewhere after them, so none is taken: a hold that another session
-- resolves meanwhile is passed over.
create or replace function ledger_expire_holds(p_limit integer) returns integer
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

revoke execute on function ledger_capture_usage(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[]) from public;
