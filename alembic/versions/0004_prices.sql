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
