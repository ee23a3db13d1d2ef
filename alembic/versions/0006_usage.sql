-- Usage by month, checkpoints of running streams, and rollups.
--
-- `request`, `attempt` and `usage_record` become RANGE partitions on the request's UUIDv7: its first 48 bits are the
-- milliseconds of its making, so a month is a range of ids and PRIMARY KEY (id) still means one row a request. Attempts go
-- by `request_id`, so that they lie in the month of their request; their key is that and their position, which is how
-- they are looked up, and which spares the two indexes of before one.
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
    v_key text;
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
            v_key := case v_table when 'attempt' then 'request_id' else 'id' end;
            continue when to_regclass('usage_month.' || v_name) is not null
                       or to_regclass('usage_archive.' || v_name) is not null;
            execute format('lock table usage_month.%I in access exclusive mode', v_table || '_default');
            execute format(
                'create table usage_month.%I (like public.%I including defaults including constraints)', v_name, v_table
            );
            execute format(
                'with moved as (delete from usage_month.%I where %I >= %L and %I < %L returning *)
                 insert into usage_month.%I select * from moved',
                v_table || '_default', v_key, v_low, v_key, v_high, v_name
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
create table attempt (like attempt_plain including defaults including constraints) partition by range (request_id);
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
alter table attempt add constraint pk_attempt primary key (request_id, position);
alter table usage_record add constraint pk_usage_record primary key (id);
create index ix_request_organization_id_id on request (organization_id, id);
create index ix_usage_record_organization_id_id on usage_record (organization_id, id);
-- None on `provider_id`: what a provider sees of usage are rollups, and each index costs every usage twice, when it is
-- recorded and when it is posted.
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

-- Writing a batch ------------------------------------------------------------------------------------------------

-- A finished request as the gateway hands it over: JSON of `core.ports.FinishedRequest`, read by the fields' names, so a
-- field that a newer release adds is passed over and one that is absent is null.
create type usage_wire_numbers as (
    token_prompt bigint, token_completion bigint, token_cached bigint, image_megapixel_step bigint, gpu_second bigint,
    request bigint
);
create type usage_wire_money as (amount bigint);
create type usage_wire_entry as (
    provider_id uuid, endpoint_id uuid, offer_id uuid, revision_id uuid,
    quantities usage_wire_numbers, prices usage_wire_numbers,
    customer_amount usage_wire_money, provider_amount usage_wire_money, fee_amount usage_wire_money, exact boolean
);
create type usage_wire_attempt as (
    id uuid, started_at timestamp with time zone, endpoint_id uuid, provider_id uuid, node_id uuid, outcome text,
    fault text, reason text, tokens_delivered integer, first_token_ms integer, duration_ms integer
);
create type usage_wire_request as (
    id uuid, created_at timestamp with time zone, organization_id uuid, project_id uuid, api_key_id uuid, user_id uuid,
    surface text, model_asked text, model_served text, state text, finish_reason text, error_code text,
    streamed boolean, first_token_ms integer, duration_ms integer, attempts usage_wire_attempt[],
    usage usage_wire_entry, lease_id uuid
);

-- Write a batch of finished requests, an array of `usage_wire_request`, with their attempts and usage; returns how many
-- were new. One that is recorded already is left as it is, so a repeat is safe and a request's row tells that the rest
-- of it is there. `p_forget` deletes their checkpoints too: from then on what was recorded counts, and not what a crash
-- would have left. In id order, so that two who write the same requests wait for each other instead of deadlocking.
create function usage_record_batch(p_requests json, p_forget boolean) returns integer
language plpgsql set search_path = public, pg_temp as $$
declare
    v_fresh integer;
begin
    with wire as materialized (
        select distinct on (id) * from json_populate_recordset(null::usage_wire_request, p_requests) order by id
    ), fresh as (
        insert into request (
            id, created_at, organization_id, project_id, api_key_id, user_id, surface, model_asked, model_served, state,
            finish_reason, error_code, streamed, first_token_ms, duration_ms
        )
        select id, created_at, organization_id, project_id, api_key_id, user_id, surface, model_asked, model_served,
               state, finish_reason, error_code, streamed, first_token_ms, duration_ms
          from wire
         order by id
        on conflict (id) do nothing
        returning id
    ), tries as (
        insert into attempt (
            id, created_at, request_id, position, endpoint_id, provider_id, node_id, outcome, fault, reason,
            tokens_delivered, first_token_ms, duration_ms
        )
        select a.id, a.started_at, w.id, a.ordinality - 1, a.endpoint_id, a.provider_id, a.node_id, a.outcome, a.fault,
               a.reason, a.tokens_delivered, a.first_token_ms, a.duration_ms
          from wire w
          join fresh on fresh.id = w.id
         cross join lateral unnest(w.attempts) with ordinality a
    ), used as (
        insert into usage_record (
            id, organization_id, project_id, api_key_id, provider_id, endpoint_id, offer_id, revision_id,
            tokens_prompt, tokens_completion, tokens_cached, image_pixel_steps, gpu_ms, requests_priced,
            price_prompt_nano_usd, price_completion_nano_usd, price_cached_nano_usd, price_megapixel_step_nano_usd,
            price_gpu_second_nano_usd, price_request_nano_usd,
            customer_nano_usd, provider_nano_usd, fee_nano_usd, exact, lease_id
        )
        select w.id, w.organization_id, w.project_id, w.api_key_id, (w.usage).provider_id, (w.usage).endpoint_id,
               (w.usage).offer_id, (w.usage).revision_id,
               coalesce((w.usage).quantities.token_prompt, 0) + coalesce((w.usage).quantities.token_cached, 0),
               coalesce((w.usage).quantities.token_completion, 0), coalesce((w.usage).quantities.token_cached, 0),
               coalesce((w.usage).quantities.image_megapixel_step, 0), coalesce((w.usage).quantities.gpu_second, 0),
               coalesce((w.usage).quantities.request, 0),
               coalesce((w.usage).prices.token_prompt, 0), coalesce((w.usage).prices.token_completion, 0),
               coalesce((w.usage).prices.token_cached, 0), coalesce((w.usage).prices.image_megapixel_step, 0),
               coalesce((w.usage).prices.gpu_second, 0), coalesce((w.usage).prices.request, 0),
               (w.usage).customer_amount.amount, (w.usage).provider_amount.amount, (w.usage).fee_amount.amount,
               (w.usage).exact, w.lease_id
          from wire w
          join fresh on fresh.id = w.id
         where w.usage is distinct from null
    )
    select count(*) into v_fresh from fresh;
    if p_forget then
        delete from usage_checkpoint
         where request_id in (select (item ->> 'id')::uuid from json_array_elements(p_requests) item);
    end if;
    return v_fresh;
end $$;

-- Rollups --------------------------------------------------------------------------------------------------------

-- Sums of posted usage by customer, project, key, revision and provider, per hour and per day (UTC) of the request's
-- arrival, which is in its id: a month's rollups and the month's partitions then cover the same requests. Written by
-- `usage_post` in the transaction that marks the usage, so each usage is in them exactly as often as in the ledger.
-- `api_key_id` is null for what people asked with a token of their own.
create table usage_hour (
    organization_id uuid not null,
    hour timestamp with time zone not null,
    project_id uuid not null,
    api_key_id uuid,
    revision_id uuid not null,
    provider_id uuid not null,
    requests bigint not null,
    tokens_prompt bigint not null,
    tokens_completion bigint not null,
    tokens_cached bigint not null,
    image_pixel_steps bigint not null,
    gpu_ms bigint not null,
    requests_priced bigint not null,
    customer_nano_usd bigint not null,
    provider_nano_usd bigint not null,
    fee_nano_usd bigint not null,
    constraint uq_usage_hour_key unique nulls not distinct (
        organization_id, hour, project_id, api_key_id, revision_id, provider_id
    )
) with (fillfactor = 80);
create index ix_usage_hour_provider_id_hour on usage_hour (provider_id, hour);
create index ix_usage_hour_hour on usage_hour (hour);

create table usage_day (
    organization_id uuid not null,
    day date not null,
    project_id uuid not null,
    api_key_id uuid,
    revision_id uuid not null,
    provider_id uuid not null,
    requests bigint not null,
    tokens_prompt bigint not null,
    tokens_completion bigint not null,
    tokens_cached bigint not null,
    image_pixel_steps bigint not null,
    gpu_ms bigint not null,
    requests_priced bigint not null,
    customer_nano_usd bigint not null,
    provider_nano_usd bigint not null,
    fee_nano_usd bigint not null,
    constraint uq_usage_day_key unique nulls not distinct (
        organization_id, day, project_id, api_key_id, revision_id, provider_id
    )
) with (fillfactor = 80);
create index ix_usage_day_provider_id_day on usage_day (provider_id, day);
create index ix_usage_day_day on usage_day (day);

-- The day's sums in two parts, each whole: by project and key (revision and provider null), and by revision and provider
-- (project and key null). What a customer's month is shown from: its days have as many rows as it has keys and offers,
-- and not as many as there are combinations of them. In 16 partitions by customer, so that a customer's rows lie closer
-- together: they are written among those of everybody else, and read by the month.
create table usage_day_part (
    organization_id uuid not null,
    day date not null,
    project_id uuid,
    api_key_id uuid,
    revision_id uuid,
    provider_id uuid,
    requests bigint not null,
    tokens_prompt bigint not null,
    tokens_completion bigint not null,
    tokens_cached bigint not null,
    image_pixel_steps bigint not null,
    gpu_ms bigint not null,
    requests_priced bigint not null,
    customer_nano_usd bigint not null,
    provider_nano_usd bigint not null,
    fee_nano_usd bigint not null,
    constraint uq_usage_day_part_key unique nulls not distinct (
        organization_id, day, revision_id, provider_id, project_id, api_key_id
    )
) partition by hash (organization_id);
do $$ begin
    for n in 0..15 loop
        execute format(
            'create table usage_month.%I partition of usage_day_part for values with (modulus 16, remainder %s)
               with (fillfactor = 80)', 'usage_day_part_' || n, n
        );
    end loop;
end $$;
create index ix_usage_day_part_day on usage_day_part (day);

-- One hour's posted usage, summed from the records themselves: a short range of ids, and of memory its sums alone.
create function usage_hour_sums(p_hour timestamp with time zone) returns setof usage_hour
language sql stable security definer set search_path = public, pg_temp as $$
    select organization_id, p_hour, project_id, api_key_id, revision_id, provider_id, count(*),
           sum(tokens_prompt)::bigint,
           sum(tokens_completion)::bigint,
           sum(tokens_cached)::bigint,
           sum(image_pixel_steps)::bigint,
           sum(gpu_ms)::bigint,
           sum(requests_priced)::bigint,
           sum(customer_nano_usd)::bigint,
           sum(provider_nano_usd)::bigint,
           sum(fee_nano_usd)::bigint
      from usage_record
     where id >= usage_first_id(p_hour at time zone 'UTC')
       and id < usage_first_id((p_hour + interval '1 hour') at time zone 'UTC')
       and posted_at is not null
     group by organization_id, project_id, api_key_id, revision_id, provider_id
$$;

-- The hours of a day in UTC.
create function usage_hours_of(p_day date) returns setof timestamp with time zone
language sql immutable strict set search_path = public, pg_temp as $$
    select (p_day + make_interval(hours => n)) at time zone 'UTC' from generate_series(0, 23) n
$$;

-- A day's sums, from its hours as they are kept.
create function usage_day_sums(p_day date) returns setof usage_day
language sql stable security definer set search_path = public, pg_temp as $$
    select organization_id, p_day, project_id, api_key_id, revision_id, provider_id,
           sum(requests)::bigint, sum(tokens_prompt)::bigint, sum(tokens_completion)::bigint, sum(tokens_cached)::bigint, sum(image_pixel_steps)::bigint, sum(gpu_ms)::bigint, sum(requests_priced)::bigint, sum(customer_nano_usd)::bigint, sum(provider_nano_usd)::bigint, sum(fee_nano_usd)::bigint
      from usage_hour
     where hour >= p_day::timestamp at time zone 'UTC' and hour < (p_day + 1)::timestamp at time zone 'UTC'
     group by organization_id, project_id, api_key_id, revision_id, provider_id
$$;

-- A day's parts, from its sums as they are kept.
create function usage_day_part_sums(p_day date) returns setof usage_day_part
language sql stable security definer set search_path = public, pg_temp as $$
    select organization_id, p_day, project_id, api_key_id, revision_id, provider_id,
           sum(requests)::bigint, sum(tokens_prompt)::bigint, sum(tokens_completion)::bigint, sum(tokens_cached)::bigint, sum(image_pixel_steps)::bigint, sum(gpu_ms)::bigint, sum(requests_priced)::bigint, sum(customer_nano_usd)::bigint, sum(provider_nano_usd)::bigint, sum(fee_nano_usd)::bigint
      from usage_day
     where day = p_day
     group by grouping sets (
        (organization_id, project_id, api_key_id), (organization_id, revision_id, provider_id)
     )
$$;

-- Add usages to their hour, their day, and its parts. The caller has marked them in this transaction, and holds the platform's fee
-- account: posters take turns there, and rows are added to in the order of their key all the same.
create function usage_roll_up(p_ids uuid[]) returns void
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_low uuid := (select id from unnest(p_ids) id order by id limit 1);
    v_high uuid := (select id from unnest(p_ids) id order by id desc limit 1);
begin
    with hourly as (
        select organization_id, date_trunc('hour', usage_arrival(id), 'UTC') as hour, project_id, api_key_id,
               revision_id, provider_id,
               count(*) as requests,
               sum(tokens_prompt)::bigint as tokens_prompt,
               sum(tokens_completion)::bigint as tokens_completion,
               sum(tokens_cached)::bigint as tokens_cached,
               sum(image_pixel_steps)::bigint as image_pixel_steps,
               sum(gpu_ms)::bigint as gpu_ms,
               sum(requests_priced)::bigint as requests_priced,
               sum(customer_nano_usd)::bigint as customer_nano_usd,
               sum(provider_nano_usd)::bigint as provider_nano_usd,
               sum(fee_nano_usd)::bigint as fee_nano_usd
          from usage_record
         -- The range leaves out other months' partitions, which a list of ids alone does not.
         where id = any(p_ids) and id >= v_low and id <= v_high
         group by 1, 2, 3, 4, 5, 6
    ), hours as (
        insert into usage_hour as t
        select * from hourly order by organization_id, hour, project_id, api_key_id, revision_id, provider_id
        on conflict (organization_id, hour, project_id, api_key_id, revision_id, provider_id) do update
           set
               requests = t.requests + excluded.requests,
               tokens_prompt = t.tokens_prompt + excluded.tokens_prompt,
               tokens_completion = t.tokens_completion + excluded.tokens_completion,
               tokens_cached = t.tokens_cached + excluded.tokens_cached,
               image_pixel_steps = t.image_pixel_steps + excluded.image_pixel_steps,
               gpu_ms = t.gpu_ms + excluded.gpu_ms,
               requests_priced = t.requests_priced + excluded.requests_priced,
               customer_nano_usd = t.customer_nano_usd + excluded.customer_nano_usd,
               provider_nano_usd = t.provider_nano_usd + excluded.provider_nano_usd,
               fee_nano_usd = t.fee_nano_usd + excluded.fee_nano_usd
    ), daily as (
        select organization_id, (hour at time zone 'UTC')::date as day, project_id, api_key_id, revision_id,
               provider_id,
               sum(requests)::bigint as requests,
               sum(tokens_prompt)::bigint as tokens_prompt,
               sum(tokens_completion)::bigint as tokens_completion,
               sum(tokens_cached)::bigint as tokens_cached,
               sum(image_pixel_steps)::bigint as image_pixel_steps,
               sum(gpu_ms)::bigint as gpu_ms,
               sum(requests_priced)::bigint as requests_priced,
               sum(customer_nano_usd)::bigint as customer_nano_usd,
               sum(provider_nano_usd)::bigint as provider_nano_usd,
               sum(fee_nano_usd)::bigint as fee_nano_usd
          from hourly
         group by 1, 2, 3, 4, 5, 6
    ), days as (
        insert into usage_day as t
        select * from daily order by organization_id, day, project_id, api_key_id, revision_id, provider_id
        on conflict (organization_id, day, project_id, api_key_id, revision_id, provider_id) do update
           set
               requests = t.requests + excluded.requests,
               tokens_prompt = t.tokens_prompt + excluded.tokens_prompt,
               tokens_completion = t.tokens_completion + excluded.tokens_completion,
               tokens_cached = t.tokens_cached + excluded.tokens_cached,
               image_pixel_steps = t.image_pixel_steps + excluded.image_pixel_steps,
               gpu_ms = t.gpu_ms + excluded.gpu_ms,
               requests_priced = t.requests_priced + excluded.requests_priced,
               customer_nano_usd = t.customer_nano_usd + excluded.customer_nano_usd,
               provider_nano_usd = t.provider_nano_usd + excluded.provider_nano_usd,
               fee_nano_usd = t.fee_nano_usd + excluded.fee_nano_usd
    )
    insert into usage_day_part as t
    select organization_id, day, project_id, api_key_id, revision_id, provider_id,
           sum(requests)::bigint, sum(tokens_prompt)::bigint, sum(tokens_completion)::bigint, sum(tokens_cached)::bigint, sum(image_pixel_steps)::bigint, sum(gpu_ms)::bigint, sum(requests_priced)::bigint, sum(customer_nano_usd)::bigint, sum(provider_nano_usd)::bigint, sum(fee_nano_usd)::bigint
      from daily
     group by grouping sets (
        (organization_id, day, project_id, api_key_id), (organization_id, day, revision_id, provider_id)
     )
     order by 1, 2, 3, 4, 5, 6
    on conflict (organization_id, day, revision_id, provider_id, project_id, api_key_id) do update
       set
               requests = t.requests + excluded.requests,
               tokens_prompt = t.tokens_prompt + excluded.tokens_prompt,
               tokens_completion = t.tokens_completion + excluded.tokens_completion,
               tokens_cached = t.tokens_cached + excluded.tokens_cached,
               image_pixel_steps = t.image_pixel_steps + excluded.image_pixel_steps,
               gpu_ms = t.gpu_ms + excluded.gpu_ms,
               requests_priced = t.requests_priced + excluded.requests_priced,
               customer_nano_usd = t.customer_nano_usd + excluded.customer_nano_usd,
               provider_nano_usd = t.provider_nano_usd + excluded.provider_nano_usd,
               fee_nano_usd = t.fee_nano_usd + excluded.fee_nano_usd;
end $$;

-- Post up to 1,000 usages, each once: mark them, capture them, add them to the rollups. What another poster has at hand
-- is passed over. Returns how many were posted (in each row), and what the ledger wrote, by code.
create function usage_post(p_ids uuid[]) returns table (usages integer, code text, amount bigint)
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    v_low uuid := (select id from unnest(p_ids) id order by id limit 1);
    v_high uuid := (select id from unnest(p_ids) id order by id desc limit 1);
    v_ids uuid[] := array(
        select id from usage_record
         where id = any(p_ids) and id >= v_low and id <= v_high and posted_at is null
         order by id
           for update skip locked
    );
    v_marked record;
begin
    if cardinality(v_ids) = 0 then
        return;
    end if;
    with marked as (
        update usage_record set posted_at = clock_timestamp()
         where id = any(v_ids) and id >= v_low and id <= v_high
        returning *
    )
    select array_agg(id) as ids, array_agg(organization_id) as organizations, array_agg(provider_id) as providers,
           array_agg(customer_nano_usd) as charges, array_agg(provider_nano_usd) as earnings,
           array_agg(fee_nano_usd) as fees, array_agg(lease_id) as leases
      into v_marked
      from marked;
    return query
    select cardinality(v_ids), posted.code, posted.amount
      from (select) one
      left join lateral ledger_capture_usage(
        v_marked.ids, v_marked.organizations, v_marked.providers, v_marked.charges, v_marked.earnings, v_marked.fees,
        v_marked.leases
      ) posted on true;
    perform usage_roll_up(v_ids);
end $$;

-- Where the rollups of a day differ from its records: (bucket's kind, differing rows). Each row is counted once for it and
-- once against it, so that those that are the same on both sides are gone after one pass.
create function usage_rollup_drift(p_day date) returns table (kind text, rows bigint)
language sql stable security definer set search_path = public, pg_temp set work_mem = '16MB' as $$
    with hours as materialized (
        select sums.* from usage_hours_of(p_day) hour, lateral usage_hour_sums(hour) sums
    ), hour_balance as (
        select sum(side) as balance
          from (
            select *, 1 as side from hours
            union all
            select *, -1 from usage_hour
             where hour >= p_day::timestamp at time zone 'UTC' and hour < (p_day + 1)::timestamp at time zone 'UTC'
          ) sides
         group by organization_id, hour, project_id, api_key_id, revision_id, provider_id, requests, tokens_prompt,
                  tokens_completion, tokens_cached, image_pixel_steps, gpu_ms, requests_priced, customer_nano_usd,
                  provider_nano_usd, fee_nano_usd
        having sum(side) <> 0
    ), days as (
        select organization_id, p_day as day, project_id, api_key_id, revision_id, provider_id,
               sum(requests)::bigint as requests,
               sum(tokens_prompt)::bigint as tokens_prompt,
               sum(tokens_completion)::bigint as tokens_completion,
               sum(tokens_cached)::bigint as tokens_cached,
               sum(image_pixel_steps)::bigint as image_pixel_steps,
               sum(gpu_ms)::bigint as gpu_ms,
               sum(requests_priced)::bigint as requests_priced,
               sum(customer_nano_usd)::bigint as customer_nano_usd,
               sum(provider_nano_usd)::bigint as provider_nano_usd,
               sum(fee_nano_usd)::bigint as fee_nano_usd
          from hours
         group by organization_id, project_id, api_key_id, revision_id, provider_id
    ), day_balance as (
        select sum(side) as balance
          from (
            select *, 1 as side from days
            union all
            select *, -1 from usage_day where day = p_day
          ) sides
         group by organization_id, day, project_id, api_key_id, revision_id, provider_id, requests, tokens_prompt,
                  tokens_completion, tokens_cached, image_pixel_steps, gpu_ms, requests_priced, customer_nano_usd,
                  provider_nano_usd, fee_nano_usd
        having sum(side) <> 0
    ), part_balance as (
        select sum(side) as balance
          from (
            select organization_id, day, project_id, api_key_id, revision_id, provider_id,
                   sum(requests)::bigint as requests,
                   sum(tokens_prompt)::bigint as tokens_prompt,
                   sum(tokens_completion)::bigint as tokens_completion,
                   sum(tokens_cached)::bigint as tokens_cached,
                   sum(image_pixel_steps)::bigint as image_pixel_steps,
                   sum(gpu_ms)::bigint as gpu_ms,
                   sum(requests_priced)::bigint as requests_priced,
                   sum(customer_nano_usd)::bigint as customer_nano_usd,
                   sum(provider_nano_usd)::bigint as provider_nano_usd,
                   sum(fee_nano_usd)::bigint as fee_nano_usd,
                   1 as side
              from days
             group by grouping sets (
                (organization_id, day, project_id, api_key_id), (organization_id, day, revision_id, provider_id)
             )
            union all
            select *, -1 from usage_day_part where day = p_day
          ) sides
         group by organization_id, day, project_id, api_key_id, revision_id, provider_id, requests, tokens_prompt,
                  tokens_completion, tokens_cached, image_pixel_steps, gpu_ms, requests_priced, customer_nano_usd,
                  provider_nano_usd, fee_nano_usd
        having sum(side) <> 0
    )
    select 'hour', coalesce(sum(abs(balance)), 0)::bigint from hour_balance
    union all
    select 'day', coalesce(sum(abs(balance)), 0)::bigint from day_balance
    union all
    select 'part', coalesce(sum(abs(balance)), 0)::bigint from part_balance
$$;

-- Sum a day's rollups anew from its records, hour by hour. Locks posters out meanwhile: for a day of half
-- a million usages a few seconds. A month is summed anew day by day, each in a transaction of its own.
create function usage_rollup_rebuild(p_day date) returns void
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '5s' set work_mem = '16MB' as $$
declare
    v_hour timestamp with time zone;
begin
    if to_regclass('usage_month.usage_record_' || to_char(p_day, 'YYYYMM')) is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'the records of ' || to_char(p_day, 'YYYYMM') || ' are not in the database',
            hint = 'rollups of archived months are all that is left of them here';
    end if;
    -- This one alone: posters write all three tables or none, but lock them in an order that is not ours to choose.
    lock table usage_hour in share row exclusive mode;
    delete from usage_hour
     where hour >= p_day::timestamp at time zone 'UTC' and hour < (p_day + 1)::timestamp at time zone 'UTC';
    delete from usage_day where day = p_day;
    delete from usage_day_part where day = p_day;
    for v_hour in select usage_hours_of(p_day) loop
        insert into usage_hour select * from usage_hour_sums(v_hour);
    end loop;
    insert into usage_day select * from usage_day_sums(p_day);
    insert into usage_day_part select * from usage_day_part_sums(p_day);
end $$;

-- What was posted before there were rollups.
insert into usage_hour
select sums.*
  from (
    select distinct date_trunc('hour', usage_arrival(id), 'UTC') as hour from usage_record where posted_at is not null
  ) used, lateral usage_hour_sums(used.hour) sums;
insert into usage_day
select sums.*
  from (select distinct (hour at time zone 'UTC')::date as day from usage_hour) used, lateral usage_day_sums(used.day) sums;
insert into usage_day_part
select sums.* from (select distinct day from usage_day) used, lateral usage_day_part_sums(used.day) sums;

revoke execute on function
    usage_hour_sums(timestamp with time zone), usage_day_sums(date), usage_day_part_sums(date), usage_roll_up(uuid[]),
    usage_post(uuid[]), usage_rollup_drift(date), usage_rollup_rebuild(date)
from public;
