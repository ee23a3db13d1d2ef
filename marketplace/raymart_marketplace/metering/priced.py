"""A usage record's columns as quantities and prices by unit. In the row, cached tokens are part of the prompt's."""

from raymart_core.ports import Prices, Quantities
from raymart_marketplace.metering.models import UsageRecord


def quantities_of(row: UsageRecord) -> Quantities:
    """What `row` bills."""
    return Quantities(
        token_prompt=row.tokens_prompt - row.tokens_cached,
        token_completion=row.tokens_completion,
        token_cached=row.tokens_cached,
        image_megapixel_step=row.image_pixel_steps,
        gpu_second=row.gpu_ms,
        request=row.requests_priced,
    )


def prices_of(row: UsageRecord) -> Prices:
    """What it bills each unit at."""
    return Prices(
        token_prompt=row.price_prompt_nano_usd,
        token_completion=row.price_completion_nano_usd,
        token_cached=row.price_cached_nano_usd,
        image_megapixel_step=row.price_megapixel_step_nano_usd,
        gpu_second=row.price_gpu_second_nano_usd,
        request=row.price_request_nano_usd,
    )
