-- Back to one price a token. Fails when a record was billed by a unit that the older schema cannot show, and when an
-- offer asks nothing: the older schema has no rate card to take its price from.

alter table offer
    alter column ask_prompt_nano_usd set not null,
    alter column ask_completion_nano_usd set not null;

drop table offer_window_ask;
drop table offer_window;
drop table offer_ask;
drop table fee_schedule;
drop table price_cap;
drop table price;
drop table rate_card;
drop function pricing_check_price();
drop function pricing_check_end();
drop function pricing_check_start();
drop function pricing_refuse();
drop type scope_range;

alter table usage_record
    drop constraint ck_usage_record_amount_is_usage_times_price,
    drop constraint ck_usage_record_prices_not_negative,
    drop constraint ck_usage_record_quantities_in_range,
    drop constraint ck_usage_record_cached_is_part_of_prompt,
    drop column tokens_cached,
    drop column image_pixel_steps,
    drop column gpu_ms,
    drop column requests_priced,
    drop column price_cached_nano_usd,
    drop column price_megapixel_step_nano_usd,
    drop column price_gpu_second_nano_usd,
    drop column price_request_nano_usd,
    add constraint ck_usage_record_amount_is_usage_times_price check (
        customer_nano_usd = tokens_prompt * price_prompt_nano_usd + tokens_completion * price_completion_nano_usd
    );
