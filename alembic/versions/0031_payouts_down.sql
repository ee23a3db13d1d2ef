-- Their policies look into the items.
drop policy tenant_sees on payout_batch;
drop policy tenant_sees on payout_part;
drop table payout_attempt;
drop table payout_item;
drop table payout_part;
drop table payout_approval;
drop table payout_batch;
drop table payout_switch;
drop table payout_policy;
drop table provider_trust;
drop table earning;
drop table epoch;
