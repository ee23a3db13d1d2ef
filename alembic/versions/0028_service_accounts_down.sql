drop index ix_api_key_service_account_id;
alter table api_key drop column service_account_id;
drop table service_account;
