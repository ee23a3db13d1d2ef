drop trigger end_payout_wallet on wallet_proof;
drop table payout_wallet;
drop function payout_wallet_end_with_proof();
drop function payout_wallet_refuse();
drop function payout_wallet_changed();
drop function payout_wallet_added();
