-- Back to plain tables. Archived months are outside the tables and must be dropped by hand before their schema.

drop function usage_rollup_rebuild(date);
drop function usage_rollup_drift(date);
drop function usage_post(uuid[]);
drop function usage_roll_up(uuid[]);
drop function usage_day_part_sums(date);
drop function usage_day_sums(date);
drop function usage_hours_of(date);
drop function usage_hour_sums(timestamp with time zone);
drop table usage_day_part;
drop table usage_day;
drop table usage_hour;
drop function usage_record_batch(json, boolean);
drop type usage_wire_request, usage_wire_attempt, usage_wire_entry, usage_wire_money, usage_wire_numbers;
drop table usage_set_aside;
drop table usage_checkpoint;

create table request_plain (like request including defaults including constraints);
create table attempt_plain (like attempt including defaults including constraints);
create table usage_record_plain (like usage_record including defaults including constraints);
insert into request_plain select * from request;
insert into attempt_plain select * from attempt;
insert into usage_record_plain select * from usage_record;
drop table request, attempt, usage_record;
alter table request_plain rename to request;
alter table attempt_plain rename to attempt;
alter table usage_record_plain rename to usage_record;

alter table request add constraint pk_request primary key (id);
alter table attempt add constraint pk_attempt primary key (id);
alter table usage_record add constraint pk_usage_record primary key (id);
create index ix_request_organization_id_id on request (organization_id, id);
create index ix_attempt_request_id on attempt (request_id);
create index ix_usage_record_organization_id_id on usage_record (organization_id, id);
create index ix_usage_record_provider_id_id on usage_record (provider_id, id);
create index ix_usage_record_unposted on usage_record (id) where posted_at is null;

drop function detach_usage_month(date);
drop function usage_months();
drop function ensure_usage_partitions(date, integer);
drop function usage_arrival(uuid);
drop function usage_first_id(timestamp);
drop schema usage_month;
drop schema usage_archive;
