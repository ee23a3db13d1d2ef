-- The whole chart of accounts and every transfer code. The meaning of each is in billing/README.md.

alter table ledger_account
    drop constraint ck_ledger_account_accountkind,
    drop constraint ck_ledger_account_owner_by_kind,
    drop constraint ck_ledger_account_overdraft_by_kind,
    add constraint ck_ledger_account_accountkind check (kind in (
        'customer_balance', 'customer_receivable', 'customer_dispute', 'usage_clearing', 'provider_payable',
        'provider_reserve', 'payout_clearing', 'platform_fee', 'platform_revenue', 'platform_refund',
        'promotional_credit', 'platform_loss', 'payment_cost', 'external_card', 'external_usdc'
    )),
    add constraint ck_ledger_account_owner_by_kind check ((owner_id is null) = (kind in (
        'platform_fee', 'platform_revenue', 'platform_refund', 'promotional_credit', 'platform_loss', 'payment_cost',
        'external_card', 'external_usdc'
    ))),
    add constraint ck_ledger_account_overdraft_by_kind check (may_overdraw = (kind in (
        'customer_receivable', 'platform_refund', 'promotional_credit', 'platform_loss', 'payment_cost',
        'external_card', 'external_usdc'
    )));

alter table transfer
    drop constraint ck_transfer_transfercode,
    add constraint ck_transfer_transfercode check (code in (
        'credit_grant', 'credit_expired', 'usage_hold', 'usage_charge', 'usage_shortfall', 'usage_earning',
        'usage_fee', 'hold_released', 'hold_expired', 'refund', 'refund_clawback', 'refund_fee', 'adjustment_credit',
        'adjustment_debit', 'deposit_card', 'deposit_usdc', 'deposit_refund', 'payment_fee', 'dispute_opened',
        'dispute_shortfall', 'dispute_won', 'dispute_lost', 'receivable_settled', 'receivable_written_off',
        'reserve_kept', 'reserve_released', 'payout_sent', 'payout_settled', 'payout_returned', 'reversal'
    ));

-- The account's id, opened if it is new. Platform accounts have no owner.
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
        values (p_kind, p_owner_id, p_asset, p_kind in (
            'customer_receivable', 'platform_refund', 'promotional_credit', 'platform_loss', 'payment_cost',
            'external_card', 'external_usdc'
        ))
        on conflict (kind, owner_id, asset) do nothing
        returning id into v_id;
        exit when found; -- Otherwise another session opened it a moment ago, and the second look finds it.
    end loop;
    return v_id;
end $$;

select ledger_open_account(kind, null, 'usd')
  from unnest(array[
    'platform_fee', 'platform_revenue', 'platform_refund', 'promotional_credit', 'platform_loss', 'payment_cost',
    'external_card', 'external_usdc'
  ]) kind;
