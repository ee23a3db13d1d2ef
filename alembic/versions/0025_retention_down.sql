drop table retained_exchange;
alter table api_key drop column prompt_retention_days;
