-- Back to the chart of 0002. New kinds and codes that were used stay in the way: money is not forgotten.

alter table ledger_account disable trigger refuse_removal;
delete from ledger_account
 where kind in ('platform_revenue', 'platform_refund', 'payment_cost', 'external_card', 'external_usdc')
   and (debits_posted, credits_posted, debits_pending, credits_pending) = (0, 0, 0, 0);
alter table ledger_account enable trigger refuse_removal;

alter table ledger_account
    drop constraint ck_ledger_account_accountkind,
    drop constraint ck_ledger_account_owner_by_kind,
    drop constraint ck_ledger_account_overdraft_by_kind,
    add constraint ck_ledger_account_accountkind check (kind in (
        'customer_balance', 'usage_clearing', 'provider_payable', 'platform_fee', 'promotional_credit', 'platform_loss'
    )),
    add constraint ck_ledger_account_owner_by_kind check (
        (owner_id is null) = (kind in ('platform_fee', 'promotional_credit', 'platform_loss'))
    ),
    add constraint ck_ledger_account_overdraft_by_kind check (
        may_overdraw = (kind in ('promotional_credit', 'platform_loss'))
    );

alter table transfer
    drop constraint ck_transfer_transfercode,
    add constraint ck_transfer_transfercode check (code in (
        'credit_grant', 'usage_hold', 'usage_charge', 'usage_shortfall', 'usage_earning', 'usage_fee', 'hold_released',
        'hold_expired'
    ));

create or replace function ledger_open_account(p_kind text, p_owner_id uuid, p_asset text) returns bigint
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
