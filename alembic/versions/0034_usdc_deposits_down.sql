-- What was posted stays posted: a ledger that has used the new accounts cannot go back.
do $$ begin
    if exists (
        select from ledger_account where kind in ('usdc_suspense', 'platform_capital')
           and (credits_posted <> 0 or debits_posted <> 0)
    ) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'USDC was booked in usdc_suspense or platform_capital: this migration cannot be taken back',
            hint = 'restore a backup of before it';
    end if;
end $$;

alter table payout_item drop constraint fk_payout_item_deposit_id_usdc_deposit;
drop table usdc_refund, usdc_deposit, usdc_top_up, usdc_sender, treasury_movement, usdc_scan;
drop function usdc_deposit_check_books();
drop function usdc_deposit_goes_on();
drop function usdc_refuse();

alter table transfer_code disable trigger refuse_change;
delete from transfer_code
 where code in (
    'deposit_unattributed', 'deposit_assigned', 'deposit_withdrawn', 'deposit_usdc_refund', 'treasury_funding'
 );
alter table transfer_code enable trigger refuse_change;
alter table transfer
    drop constraint ck_transfer_transfercode,
    add constraint ck_transfer_transfercode check (code in (
        'credit_grant', 'credit_expired', 'usage_hold', 'usage_charge', 'usage_shortfall', 'usage_earning',
        'usage_fee', 'hold_released', 'hold_expired', 'refund', 'refund_clawback', 'refund_fee', 'adjustment_credit',
        'adjustment_debit', 'deposit_card', 'deposit_usdc', 'deposit_refund', 'payment_fee', 'dispute_opened',
        'dispute_shortfall', 'dispute_won', 'dispute_lost', 'receivable_settled', 'receivable_written_off',
        'reserve_kept', 'reserve_released', 'payout_sent', 'payout_settled', 'payout_returned', 'reversal'
    ));

alter table ledger_account disable trigger refuse_removal;
delete from ledger_account where kind in ('usdc_suspense', 'platform_capital');
alter table ledger_account enable trigger refuse_removal;
alter table ledger_account
    drop constraint ck_ledger_account_accountkind,
    drop constraint ck_ledger_account_owner_by_kind,
    add constraint ck_ledger_account_accountkind check (kind in (
        'customer_balance', 'customer_receivable', 'customer_dispute', 'usage_clearing', 'provider_payable',
        'provider_reserve', 'payout_clearing', 'platform_fee', 'platform_revenue', 'platform_refund',
        'promotional_credit', 'platform_loss', 'payment_cost', 'external_card', 'external_usdc'
    )),
    add constraint ck_ledger_account_owner_by_kind check ((owner_id is null) = (kind in (
        'platform_fee', 'platform_revenue', 'platform_refund', 'promotional_credit', 'platform_loss', 'payment_cost',
        'external_card', 'external_usdc'
    )));
