-- What these tables knew is gone with them; the money they moved stays in the ledger.

drop table alert, alert_threshold, balance_adjustment, credit_checkpoint, credit_grant, billing_block_change,
    stripe_replay, stripe_event, dispute, deposit_refund, card_payment, deposit;
drop function deposit_refuse_rewrite();
