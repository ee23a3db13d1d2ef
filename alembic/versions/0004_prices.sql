-- Prices by unit: what usage records keep, and where prices come from.

-- Usage ----------------------------------------------------------------------------------------------------------

-- Constant defaults: PostgreSQL keeps them beside the table and rewrites no row.
alter table usage_record
    add column tokens_cached bigint not null default 0,
    add column image_pixel_steps bigint not null default 0,
    add column gpu_ms bigint not null default 0,
    add column requests_priced bigint not null default 0,
    add column price_cached_nano_usd bigint not null default 0,
    add column price_megapixel_step_nano_usd bigint not null default 0,
    add column price_gpu_second_nano_usd bigint not null default 0,
    add column price_request_nano_usd bigint not null default 0,
    drop constraint ck_usage_record_amount_is_usage_times_price,
    add constraint ck_usage_record_cached_is_part_of_prompt check (tokens_cached between 0 and tokens_prompt),
    add constraint ck_usage_record_quantities_in_range check (
        image_pixel_steps >= 0 and gpu_ms >= 0 and requests_priced in (0, 1)
    ),
    add constraint ck_usage_record_prices_not_negative check (
        price_prompt_nano_usd >= 0 and price_completion_nano_usd >= 0 and price_cached_nano_usd >= 0
        and price_megapixel_step_nano_usd >= 0 and price_gpu_second_nano_usd >= 0 and price_request_nano_usd >= 0
    ),
    -- Each unit's amount is rounded down to a whole nano-USD, in the customer's favour. A product over a bigint is an
    -- error and not another number.
    add constraint ck_usage_record_amount_is_usage_times_price check (
        customer_nano_usd = (tokens_prompt - tokens_cached) * price_prompt_nano_usd
            + tokens_cached * price_cached_nano_usd
            + tokens_completion * price_completion_nano_usd
            + image_pixel_steps * price_megapixel_step_nano_usd / 1000000
            + gpu_ms * price_gpu_second_nano_usd / 1000
            + requests_priced * price_request_nano_usd
    );


-- Scopes ---------------------------------------------------------------------------------------------------------

-- An exclusion constraint needs GiST, and GiST knows ranges of text but not equality of text or uuid without an
-- extension that not every server carries. The range from a scope to itself overlaps exactly the same scope.
create type scope_range as range (subtype = text, collation = "C");


-- Rate cards -----------------------------------------------------------------------------------------------------

create table rate_card (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    model_id uuid not null,
    revision_id uuid,
    version integer not null,
    effective_from timestamp with time zone not null,
    effective_to timestamp with time zone,
    state varchar(32) not null,
    created_by uuid,
    constraint pk_rate_card primary key (id),
    constraint uq_rate_card_model_id_revision_id_version
        unique nulls not distinct (model_id, revision_id, version),
    constraint fk_rate_card_model_id_model foreign key (model_id) references model (id) on delete restrict,
    constraint fk_rate_card_revision_id_model_revision
        foreign key (revision_id) references model_revision (id) on delete restrict,
    constraint fk_rate_card_created_by_user foreign key (created_by) references "user" (id) on delete restrict,
    constraint ck_rate_card_ratecardstate check (state in ('draft', 'published', 'retired')),
    constraint ck_rate_card_version_positive check (version >= 1),
    constraint ck_rate_card_ends_after_start check (effective_to >= effective_from),
    -- At most one card is effective for a model, or for a revision, at a time.
    constraint ex_rate_card_effective exclude using gist (
        scope_range(coalesce(revision_id, model_id)::text, coalesce(revision_id, model_id)::text, '[]') with &&,
        tstzrange(effective_from, effective_to) with &&
    ) where (state <> 'draft')
);

create table price (
    rate_card_id uuid not null,
    unit varchar(32) not null,
    nano_usd bigint not null,
    constraint pk_price primary key (rate_card_id, unit),
    constraint fk_price_rate_card_id_rate_card
        foreign key (rate_card_id) references rate_card (id) on delete cascade,
    constraint ck_price_unit check (unit in (
        'token.prompt', 'token.completion', 'token.cached', 'image.megapixel_step', 'gpu.second', 'request'
    )),
    constraint ck_price_in_range check (nano_usd between 0 and 1000000000)
);


-- Caps and fees --------------------------------------------------------------------------------------------------

create table price_cap (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    unit varchar(32) not null,
    model_id uuid,
    max_nano_usd bigint not null,
    effective_from timestamp with time zone not null,
    effective_to timestamp with time zone,
    reason varchar not null,
    created_by uuid,
    constraint pk_price_cap primary key (id),
    constraint fk_price_cap_model_id_model foreign key (model_id) references model (id) on delete restrict,
    constraint fk_price_cap_created_by_user foreign key (created_by) references "user" (id) on delete restrict,
    constraint ck_price_cap_unit check (unit in (
        'token.prompt', 'token.completion', 'token.cached', 'image.megapixel_step', 'gpu.second', 'request'
    )),
    constraint ck_price_cap_in_range check (max_nano_usd between 0 and 1000000000),
    constraint ck_price_cap_ends_after_start check (effective_to >= effective_from),
    constraint ck_price_cap_has_reason check (length(reason) between 1 and 500),
    constraint ex_price_cap_effective exclude using gist (
        scope_range(unit || coalesce(model_id::text, ''), unit || coalesce(model_id::text, ''), '[]') with &&,
        tstzrange(effective_from, effective_to) with &&
    )
);

create table fee_schedule (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    version integer not null,
    basis_points integer not null,
    provider_id uuid,
    model_id uuid,
    effective_from timestamp with time zone not null,
    effective_to timestamp with time zone,
    reason varchar not null,
    created_by uuid,
    constraint pk_fee_schedule primary key (id),
    constraint uq_fee_schedule_version unique (version),
    constraint fk_fee_schedule_provider_id_provider
        foreign key (provider_id) references provider (id) on delete restrict,
    constraint fk_fee_schedule_model_id_model foreign key (model_id) references model (id) on delete restrict,
    constraint fk_fee_schedule_created_by_user foreign key (created_by) references "user" (id) on delete restrict,
    constraint ck_fee_schedule_share_of_whole check (basis_points between 0 and 10000),
    constraint ck_fee_schedule_version_positive check (version >= 1),
    constraint ck_fee_schedule_ends_after_start check (effective_to >= effective_from),
    constraint ck_fee_schedule_has_reason check (length(reason) between 1 and 500),
    constraint ex_fee_schedule_effective exclude using gist (
        scope_range(
            coalesce(provider_id::text, '') || '/' || coalesce(model_id::text, ''),
            coalesce(provider_id::text, '') || '/' || coalesce(model_id::text, ''), '[]'
        ) with &&,
        tstzrange(effective_from, effective_to) with &&
    )
);


-- What people were charged by stays as it was ----------------------------------------------------------------------

create function pricing_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = tg_op || ' on ' || tg_table_name || ' is refused: what was published stays as it is',
        hint = 'publish a new version; the old one then ends when the new one takes effect';
end $$;

create function pricing_check_start() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    -- now() is the transaction's start, and whoever asks for "now" reads the clock after it.
    if new.effective_from < now() then
        raise exception using
            errcode = 'check_violation', table = tg_table_name, constraint = 'ck_' || tg_table_name || '_not_backdated',
            message = tg_table_name || ' would take effect at ' || new.effective_from || ', which is past',
            hint = 'a price takes effect now or later';
    end if;
    return new;
end $$;

-- Lets only an end be set, and only a nearer one that is not past.
create function pricing_check_end() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if to_jsonb(new) - 'effective_to' - 'state' is distinct from to_jsonb(old) - 'effective_to' - 'state'
       or new.effective_to is null
       or new.effective_to > coalesce(old.effective_to, 'infinity')
       or (new.effective_to is distinct from old.effective_to and new.effective_to < now()) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'UPDATE on ' || tg_table_name || ' is refused: only its end may be set, and not into the past',
            hint = 'publish a new version; the old one then ends when the new one takes effect';
    end if;
    return new;
end $$;

create function pricing_check_price() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    -- For share: a card is not published while a price is added to it.
    perform 1 from rate_card where id = coalesce(new.rate_card_id, old.rate_card_id) and state <> 'draft' for share;
    if found then
        raise exception using
            errcode = 'insufficient_privilege',
            message = tg_op || ' on price is refused: its rate card is published',
            hint = 'publish a new version';
    end if;
    return coalesce(new, old);
end $$;

create trigger check_start before update on rate_card
    for each row when (old.state = 'draft' and new.state <> 'draft') execute function pricing_check_start();
create trigger check_end before update on rate_card
    for each row when (old.state <> 'draft') execute function pricing_check_end();
create trigger refuse_undoing before update on rate_card
    for each row when (
        (old.state <> 'draft' and new.state = 'draft') or (old.state = 'retired' and new.state <> 'retired')
    ) execute function pricing_refuse();
create trigger refuse_born_published before insert on rate_card
    for each row when (new.state <> 'draft') execute function pricing_refuse();
create trigger refuse_removal before delete on rate_card
    for each row when (old.state <> 'draft') execute function pricing_refuse();
create trigger refuse_truncate before truncate on rate_card
    for each statement execute function pricing_refuse();
create trigger check_price before insert or update or delete on price
    for each row execute function pricing_check_price();
create trigger refuse_truncate before truncate on price
    for each statement execute function pricing_refuse();

create trigger check_start before insert on price_cap
    for each row execute function pricing_check_start();
create trigger check_end before update on price_cap
    for each row execute function pricing_check_end();
create trigger refuse_removal before delete or truncate on price_cap
    for each statement execute function pricing_refuse();
create trigger check_start before insert on fee_schedule
    for each row execute function pricing_check_start();
create trigger check_end before update on fee_schedule
    for each row execute function pricing_check_end();
create trigger refuse_removal before delete or truncate on fee_schedule
    for each statement execute function pricing_refuse();


-- Asks -----------------------------------------------------------------------------------------------------------

create table offer_ask (
    offer_id uuid not null,
    unit varchar(32) not null,
    price_nano_usd bigint,
    floor_nano_usd bigint not null default 0,
    constraint pk_offer_ask primary key (offer_id, unit),
    constraint fk_offer_ask_offer_id_offer foreign key (offer_id) references offer (id) on delete cascade,
    constraint ck_offer_ask_unit check (unit in (
        'token.prompt', 'token.completion', 'token.cached', 'image.megapixel_step', 'gpu.second', 'request'
    )),
    constraint ck_offer_ask_price_in_range check (price_nano_usd between 0 and 1000000000),
    constraint ck_offer_ask_floor_in_range check (floor_nano_usd between 0 and 1000000000),
    constraint ck_offer_ask_not_below_floor check (price_nano_usd >= floor_nano_usd)
);

create table offer_window (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    offer_id uuid not null,
    days smallint[] not null,
    starts_minute smallint not null,
    ends_minute smallint not null,
    basis_points integer,
    constraint pk_offer_window primary key (id),
    constraint fk_offer_window_offer_id_offer foreign key (offer_id) references offer (id) on delete cascade,
    constraint ck_offer_window_days_of_week check (
        cardinality(days) between 1 and 7 and days <@ '{1,2,3,4,5,6,7}'::smallint[]
    ),
    constraint ck_offer_window_minutes_of_day check (
        starts_minute between 0 and 1439 and ends_minute between 1 and 1440 and starts_minute <> ends_minute
    ),
    constraint ck_offer_window_share_in_range check (basis_points between 1 and 100000)
);
create index ix_offer_window_offer_id on offer_window (offer_id);

create table offer_window_ask (
    window_id uuid not null,
    unit varchar(32) not null,
    price_nano_usd bigint not null,
    constraint pk_offer_window_ask primary key (window_id, unit),
    constraint fk_offer_window_ask_window_id_offer_window
        foreign key (window_id) references offer_window (id) on delete cascade,
    constraint ck_offer_window_ask_unit check (unit in (
        'token.prompt', 'token.completion', 'token.cached', 'image.megapixel_step', 'gpu.second', 'request'
    )),
    constraint ck_offer_window_ask_price_in_range check (price_nano_usd between 0 and 1000000000)
);

insert into offer_ask (offer_id, unit, price_nano_usd)
select id, 'token.prompt', ask_prompt_nano_usd from offer
union all
select id, 'token.completion', ask_completion_nano_usd from offer;

-- Without an ask, an offer sells at the rate card's price.
alter table offer
    alter column ask_prompt_nano_usd drop not null,
    alter column ask_completion_nano_usd drop not null;
