drop index ix_offer_succeeded_by;
alter table offer drop column succeeded_by, drop column succeeded_at;
