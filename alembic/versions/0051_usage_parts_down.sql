-- Later parts stay, as usage records of their own: what they cost and earned is in the books.

alter table refund disable trigger refuse_change;
update refund set request_id = usage_part_id(request_id, part) where part > 0;
alter table refund enable trigger refuse_change;

-- Write a batch of finished requests, an array of `usage_wire_request`, with their attempts and usage; returns how many
-- were new. One that is recorded already is left as it is, so a repeat is safe and a request's row tells that the rest
-- of it is there. `p_forget` deletes their checkpoints too: from then on what was recorded counts, and not what a crash
-- would have left. In id order, so that two who write the same requests wait for each other instead of deadlocking.
create or replace function usage_record_batch(p_requests json, p_forget boolean) returns integer
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

-- One hour's posted usage, summed from the records themselves: a short range of ids, and of memory its sums alone.
create or replace function usage_hour_sums(p_hour timestamp with time zone) returns setof usage_hour
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

-- Add usages to their hour, their day, and its parts. The caller has marked them in this transaction, and holds the platform's fee
-- account: posters take turns there, and rows are added to in the order of their key all the same.
create or replace function usage_roll_up(p_ids uuid[]) returns void
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
create or replace function usage_post(p_ids uuid[]) returns table (usages integer, code text, amount bigint)
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

-- What is left of a final invoice: its usage, less the refunds among its lines, less what was given back since, by
-- credit note or for its requests one by one. Never below zero.
create or replace function invoice_creditable(p_invoice_id uuid) returns bigint
language sql stable set search_path = public, pg_temp as $$
    select greatest(0,
        i.charged_nano_usd
        - coalesce((
            select sum(l.amount_nano_usd) from invoice_line l where l.invoice_id = i.id and l.kind = 'refund'
        ), 0)
        - coalesce((
            select sum(n.amount_nano_usd) from credit_note n where n.invoice_id = i.id and n.state = 'issued'
        ), 0)
        - coalesce((
            select sum(r.amount_nano_usd)
              from refund r
              join transfer t on t.key = 'refund:' || r.id
              join usage_record u on u.id = r.request_id
             where r.organization_id = i.organization_id and t.id > i.up_to_transfer_id and u.posted_at < i.booked_until
               and u.posted_at >= coalesce((
                    select max(before.booked_until) from invoice before
                     where before.organization_id = i.organization_id and before.state = 'final'
                       and before.up_to_transfer_id <= i.after_transfer_id and before.id <> i.id
                   ), '-infinity')
        ), 0)
    )::bigint
      from invoice i where i.id = p_invoice_id and i.state = 'final'
$$;

drop function refund_left(uuid, integer);
-- What can still be given back for a request: what its customer paid, less what was given back. Null when it was not
-- billed. What neither a hold nor the balance covered was never paid.
create function refund_left(p_request_id uuid) returns bigint
language sql stable set search_path = public, pg_temp as $$
    select u.customer_nano_usd
           - coalesce((
                select t.amount from transfer t
                 where t.key = 'usage:' || u.id || ':uncovered' and t.code = 'usage_shortfall'
             ), 0)
           - coalesce((select sum(r.amount_nano_usd) from refund r where r.request_id = u.id), 0)::bigint
      from usage_record u where u.id = p_request_id and u.posted_at is not null
$$;

grant execute on function refund_left(uuid) to raymart_runtime;

create or replace function refund_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_usage record;
    v_left bigint;
begin
    if new.request_id is null then
        return new;
    end if;
    -- Under this lock refunds of one request come one after the other.
    select organization_id, provider_id into v_usage from usage_record where id = new.request_id for no key update;
    v_left := refund_left(new.request_id);
    if v_left is null or (v_usage.organization_id, v_usage.provider_id) is distinct from (new.organization_id, new.provider_id)
       or new.amount_nano_usd > v_left then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_refund_within_charge', table = 'refund',
            message = 'a refund of ' || new.amount_nano_usd || ' exceeds what is left of the request''s charge, '
                || coalesce(v_left, 0);
    end if;
    return new;
end $$;

drop function refund_post(uuid, text, text, uuid, uuid, uuid, bigint, text, text, integer, text, text, uuid, integer);
-- Give back `p_amount` (null: all that is left) for a request, or for a credit note, and move the money:
-- platform_refund -> customer; what the provider bears, as far as it is there, provider_payable -> platform_refund; the
-- fee's part platform_fee -> platform_refund. What is left in platform_refund is the platform's expense.
-- A repeat of `p_key` changes nothing and returns the first refund. Null when nothing is left to give back.
create function refund_post(
    p_id uuid, p_key text, p_kind text, p_organization_id uuid, p_request_id uuid, p_credit_note_id uuid, p_amount bigint,
    p_bearer text, p_rule text, p_rule_version integer, p_reason text, p_currency text, p_actor_id uuid
) returns refund
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_refund refund;
    v_usage usage_record;
    v_left bigint;
    v_returned bigint;
    v_customer bigint;
    v_expense bigint;
    v_payable bigint;
    v_fee bigint;
    v_provider_part bigint := 0;
    v_available bigint;
begin
    if p_currency <> 'usd' then
        raise exception using errcode = 'check_violation', constraint = 'ck_refund_currency', table = 'refund',
            message = 'a refund is in usd, not ' || p_currency;
    end if;
    if p_request_id is not null then
        select * into v_usage from usage_record where id = p_request_id for no key update;
    end if;
    select * into v_refund from refund where key = p_key;
    if found then
        if (v_refund.kind, v_refund.request_id, v_refund.credit_note_id, v_refund.bearer)
           is distinct from (p_kind, p_request_id, p_credit_note_id, p_bearer)
           or v_refund.amount_nano_usd <> coalesce(p_amount, v_refund.amount_nano_usd) then
            raise exception using
                errcode = 'unique_violation', constraint = 'uq_refund_key', table = 'refund',
                message = 'key ' || p_key || ' was used before, for another refund';
        end if;
        return v_refund;
    end if;

    v_left := case when p_request_id is null then p_amount else coalesce(refund_left(p_request_id), 0) end;
    p_amount := coalesce(p_amount, v_left);
    if p_amount is null or (p_amount = 0 and v_left = 0) then
        return null;
    end if;
    if p_amount <= 0 then
        raise exception using errcode = 'check_violation', constraint = 'ck_refund_amount_positive', table = 'refund',
            message = 'a refund is more than 0 nano-USD, not ' || p_amount;
    end if;
    if p_amount > v_left then
        raise exception using errcode = 'check_violation', constraint = 'ck_refund_within_charge', table = 'refund',
            message = 'a refund of ' || p_amount || ' exceeds what is left of the request''s charge, ' || v_left;
    end if;

    v_customer := ledger_open_account('customer_balance', p_organization_id, 'usd');
    v_expense := ledger_open_account('platform_refund', null, 'usd');
    v_fee := ledger_open_account('platform_fee', null, 'usd');
    if p_request_id is not null then
        v_payable := ledger_open_account('provider_payable', v_usage.provider_id, 'usd');
    end if;
    -- From here on nobody else moves these: what is there now is there when the transfers are written.
    perform ledger_lock_accounts(array_remove(array[v_customer, v_expense, v_fee, v_payable], null));

    v_refund := row(
        p_id, clock_timestamp(), p_key, p_kind, p_organization_id, p_request_id, p_credit_note_id, v_usage.provider_id,
        p_amount, 0, 0, 0, p_bearer, p_rule, p_rule_version, p_reason, p_actor_id
    );
    if p_request_id is not null and v_usage.customer_nano_usd > 0 then
        -- Rounded down: the nano-USD that cannot be split stays with the provider.
        v_provider_part := floor(p_amount::numeric * v_usage.provider_nano_usd / v_usage.customer_nano_usd);
        select credits_posted - debits_posted - debits_pending into v_available from ledger_account where id = v_fee;
        select coalesce(sum(fee_nano_usd), 0) into v_returned from refund where request_id = p_request_id;
        v_refund.fee_nano_usd := greatest(
            0, least(p_amount - v_provider_part, v_usage.fee_nano_usd - v_returned, v_available)
        );
        if p_bearer = 'provider' then
            select credits_posted - debits_posted - debits_pending into v_available
              from ledger_account where id = v_payable;
            v_refund.clawback_nano_usd := greatest(0, least(v_provider_part, v_available));
        end if;
    end if;
    v_refund.expense_nano_usd := p_amount - v_refund.clawback_nano_usd - v_refund.fee_nano_usd;
    perform ledger_post_batch(
        array_agg(leg.key order by leg.position), array_agg(leg.debit order by leg.position),
        array_agg(leg.credit order by leg.position), array_agg(leg.amount order by leg.position),
        array_agg(leg.code order by leg.position), p_actor_id
    )
      from (values
        (1, 'refund:' || p_id, v_expense, v_customer, p_amount, 'refund'),
        (2, 'refund:' || p_id || ':clawback', v_payable, v_expense, v_refund.clawback_nano_usd, 'refund_clawback'),
        (3, 'refund:' || p_id || ':fee', v_fee, v_expense, v_refund.fee_nano_usd, 'refund_fee')
      ) leg (position, key, debit, credit, amount, code)
     where leg.amount > 0;
    insert into refund select v_refund.*;
    return v_refund;
end $$;

revoke execute on function
    refund_post(uuid, text, text, uuid, uuid, uuid, bigint, text, text, integer, text, text, uuid)
from public;
grant execute on function
    refund_post(uuid, text, text, uuid, uuid, uuid, bigint, text, text, integer, text, text, uuid)
to raymart_runtime;

drop index uq_refund_rule;
alter table refund drop constraint ck_refund_part_of_a_request, drop column part;
create unique index uq_refund_rule on refund (request_id) where kind = 'rule';

alter type usage_wire_request drop attribute more;
drop index ix_usage_record_continues_id;
alter table usage_record
    drop constraint ck_usage_record_part_of_a_request,
    drop constraint ck_usage_record_prompt_is_paid_once,
    drop column continues_id,
    drop column part;
drop function usage_part_id(uuid, integer);
