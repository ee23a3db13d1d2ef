-- Back to usage of tokens only. Fails when a record was billed by a unit that the older schema cannot show.

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
