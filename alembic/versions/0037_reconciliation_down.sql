drop trigger refuse_resume on payout_switch;
drop function payout_switch_refuse_resume();
drop table treasury_withdrawal;
drop table reconciliation_difference;
drop table reconciliation_run;
drop function reconciliation_refuse();

alter table transfer_code disable trigger refuse_change;
delete from transfer_code where code = 'treasury_withdrawn';
alter table transfer_code enable trigger refuse_change;
alter table transfer
    drop constraint ck_transfer_transfercode,
    add constraint ck_transfer_transfercode check (code in (
        'credit_grant', 'credit_expired', 'usage_hold', 'usage_charge', 'usage_shortfall', 'usage_earning',
        'usage_fee', 'hold_released', 'hold_expired', 'refund', 'refund_clawback', 'refund_fee', 'adjustment_credit',
        'adjustment_debit', 'deposit_card', 'deposit_usdc', 'deposit_unattributed', 'deposit_assigned',
        'deposit_withdrawn', 'deposit_usdc_refund', 'treasury_funding', 'deposit_refund', 'payment_fee',
        'dispute_opened', 'dispute_shortfall', 'dispute_won', 'dispute_lost', 'receivable_settled',
        'receivable_written_off', 'reserve_kept', 'reserve_released', 'payout_sent', 'payout_settled',
        'payout_returned', 'reversal'
    ));
