-- Usage by month, checkpoints of running streams, and rollups.
--
-- `request`, `attempt` and `usage_record` become RANGE partitions on their own UUIDv7 `id`: its first 48 bits are the
-- milliseconds of its making, so a month is a range of ids and PRIMARY KEY (id) still means one row a request.
-- Partitions live in a schema of their own: what the models describe is the parents in `public`.

create schema usage_month;
create schema usage_archive;

-- The lowest UUIDv7 of a moment in UTC.
create function usage_first_id(p_at timestamp) returns uuid
language sql immutable strict parallel safe set search_path = public, pg_temp as $$
    select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- When a UUIDv7 was made, to the millisecond: the arrival of a request. (`uuid_extract_timestamp` needs PostgreSQL 18.)
create function usage_arrival(p_id uuid) returns timestamp with time zone
language sql immutable strict parallel safe as $$
    select to_timestamp(('x' || translate(left(p_id::text, 13), '-', ''))::bit(48)::bigint / 1000.0)
$$;

-- Make the partitions of `p_months` months from that of `p_from` on, as far as they are missing; returns how many were.
-- Rows that came before their month had a partition move there from the default one.
-- Locks: one caller at a time; of each table the default partition (empty but for odd ids), for the length of a scan.
create function ensure_usage_partitions(p_from date, p_months integer) returns integer
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '5s' as $$
declare
    v_table text;
    v_month timestamp;
    v_name text;
    v_low uuid;
    v_high uuid;
    v_made integer := 0;
begin
    if p_months not between 1 and 120 then
        raise exception using
            errcode = 'invalid_parameter_value', message = 'make 1 to 120 months at once, not ' || p_months;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('usage_month', 0));
    for v_month in
        select month from generate_series(0, p_months - 1) n,
               lateral (select date_trunc('month', p_from::timestamp) + make_interval(months => n) as month) m
    loop
        v_low := usage_first_id(v_month);
        v_high := usage_first_id(v_month + interval '1 month');
        foreach v_table in array array['request', 'attempt', 'usage_record'] loop
            v_name := v_table || '_' || to_char(v_month, 'YYYYMM');
            continue when to_regclass('usage_month.' || v_name) is not null
                       or to_regclass('usage_archive.' || v_name) is not null;
            execute format('lock table usage_month.%I in access exclusive mode', v_table || '_default');
            execute format(
                'create table usage_month.%I (like public.%I including defaults including constraints)', v_name, v_table
            );
            execute format(
                'with moved as (delete from usage_month.%I where id >= %L and id < %L returning *)
                 insert into usage_month.%I select * from moved', v_table || '_default', v_low, v_high, v_name
            );
            execute format(
                'alter table public.%I attach partition usage_month.%I for values from (%L) to (%L)',
                v_table, v_name, v_low, v_high
            );
            v_made := v_made + 1;
        end loop;
    end loop;
    return v_made;
end $$;

-- The months that have partitions, oldest first, with what detaching would take along.
create function usage_months() returns table (month date, requests bigint, usages bigint, unposted bigint, bytes bigint)
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
    v_name text;
begin
    for v_name in
        select right(c.relname, 6)
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'usage_record'::regclass and c.relname ~ '_[0-9]{6}$'
         order by 1
    loop
        month := to_date(v_name, 'YYYYMM');
        execute format(
            'select (select count(*) from usage_month.%I), (select count(*) from usage_month.%I),
                    (select count(*) from usage_month.%I where posted_at is null),
                    (select sum(pg_total_relation_size(name::regclass)) from unnest(%L::text[]) name)',
            'request_' || v_name, 'usage_record_' || v_name, 'usage_record_' || v_name,
            array['usage_month.request_' || v_name, 'usage_month.attempt_' || v_name,
                  'usage_month.usage_record_' || v_name]
        ) into requests, usages, unposted, bytes;
        return next;
    end loop;
end $$;

-- Take one month's partitions out of the tables, into the schema `usage_archive`, where they can be dumped and dropped.
-- Rollups keep what they hold. Refused for this month and the last, and while usage of it is unposted.
create function detach_usage_month(p_month date) returns void
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '5s' as $$
declare
    v_table text;
    v_name text;
    v_suffix text := to_char(p_month, 'YYYYMM');
    v_is_unposted boolean;
begin
    if date_trunc('month', p_month::timestamp) >= date_trunc('month', clock_timestamp() at time zone 'UTC') - interval '1 month' then
        raise exception using
            errcode = 'invalid_parameter_value', message = 'usage of ' || v_suffix || ' is too young to be archived',
            hint = 'this month and the last stay: late records still arrive';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('usage_month', 0));
    foreach v_table in array array['attempt', 'request', 'usage_record'] loop
        v_name := v_table || '_' || v_suffix;
        execute format('alter table public.%I detach partition usage_month.%I', v_table, v_name);
        execute format('alter table usage_month.%I set schema usage_archive', v_name);
    end loop;
    -- Last, when nothing can be added any more; an exception takes everything back.
    execute format('select exists (select from usage_archive.%I where posted_at is null)', v_name) into v_is_unposted;
    if v_is_unposted then
        raise exception using
            errcode = 'object_not_in_prerequisite_state', message = 'usage of ' || v_suffix || ' is not all posted',
            hint = 'run the sweeper, look at `raymart usage spilled`, and try again';
    end if;
end $$;

revoke execute on function
    ensure_usage_partitions(date, integer), usage_months(), detach_usage_month(date)
from public;


-- From plain tables to partitions --------------------------------------------------------------------------------

alter table request rename to request_plain;
alter table attempt rename to attempt_plain;
alter table usage_record rename to usage_record_plain;

create table request (like request_plain including defaults including constraints) partition by range (id);
create table attempt (like attempt_plain including defaults including constraints) partition by range (id);
create table usage_record (like usage_record_plain including defaults including constraints) partition by range (id);

create table usage_month.request_default partition of request default;
create table usage_month.attempt_default partition of attempt default;
create table usage_month.usage_record_default partition of usage_record default;

-- What there is already, this month, and three ahead.
select ensure_usage_partitions(
    (oldest at time zone 'UTC')::date,
    ((extract(year from age(newest, oldest)) * 12 + extract(month from age(newest, oldest)))::integer + 5)
) from (
    select date_trunc('month', least(clock_timestamp(), coalesce(min(created_at), clock_timestamp())), 'UTC') as oldest,
           clock_timestamp() as newest
      from request_plain
) kept;

insert into request select * from request_plain;
insert into attempt select * from attempt_plain;
insert into usage_record select * from usage_record_plain;

drop table request_plain, attempt_plain, usage_record_plain;

alter table request add constraint pk_request primary key (id);
alter table attempt add constraint pk_attempt primary key (id);
alter table usage_record add constraint pk_usage_record primary key (id);
create index ix_request_organization_id_id on request (organization_id, id);
create index ix_attempt_request_id on attempt (request_id);
create index ix_usage_record_organization_id_id on usage_record (organization_id, id);
create index ix_usage_record_provider_id_id on usage_record (provider_id, id);
create index ix_usage_record_unposted on usage_record (id) where posted_at is null;


-- Checkpoints ----------------------------------------------------------------------------------------------------

-- What to record of a running stream if its gateway dies now: at most one row a request, gone once it is recorded.
create table usage_checkpoint (
    request_id uuid not null,
    gateway_id uuid not null,
    record bytea not null,
    updated_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_usage_checkpoint primary key (request_id)
) with (fillfactor = 50); -- Rewritten each second: room in each page spares the index.

-- Spilled or checkpointed records that could not become rows: kept whole, with the reason, until somebody decides.
create table usage_set_aside (
    digest bytea not null,
    request_id uuid,
    origin varchar(32) not null,
    reason varchar not null,
    record bytea not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    resolved_at timestamp with time zone,
    constraint pk_usage_set_aside primary key (digest),
    constraint ck_usage_set_aside_recordorigin check (origin in ('stream', 'file', 'checkpoint'))
);
