"""The database multiplies for itself: a usage record whose amount is not quantity times price cannot be written."""

import psycopg
import pytest

from raymart_billing.rating import UnitRater
from raymart_core.ids import new_id
from raymart_core.ports import Prices, Quantities

RATER = UnitRater()
QUANTITIES = Quantities(
    token_prompt=11, token_completion=7, token_cached=5, image_megapixel_step=2_500_000, gpu_second=1_500, request=1
)  # fmt: skip
PRICES = Prices(
    token_prompt=100, token_completion=301, token_cached=10, image_megapixel_step=3, gpu_second=7, request=13
)  # fmt: skip
CHARGE = RATER.rate(QUANTITIES, PRICES, fee_basis_points=1_000)

FREE: dict[str, object] = dict.fromkeys(("price_prompt_nano_usd", "price_completion_nano_usd", "price_cached_nano_usd", "price_megapixel_step_nano_usd", "price_gpu_second_nano_usd", "price_request_nano_usd", "customer_nano_usd", "provider_nano_usd", "fee_nano_usd"), 0)  # fmt: skip
"""A record of no cost, in which one thing can be wrong by itself."""


def row() -> dict[str, object]:
    return {
        **{name: new_id() for name in ("id", "organization_id", "project_id", "provider_id", "endpoint_id", "offer_id")},
        "revision_id": new_id(), "tokens_prompt": 16, "tokens_completion": 7, "tokens_cached": 5,
        "image_pixel_steps": 2_500_000, "gpu_ms": 1_500, "requests_priced": 1, "price_prompt_nano_usd": 100,
        "price_completion_nano_usd": 301, "price_cached_nano_usd": 10, "price_megapixel_step_nano_usd": 3,
        "price_gpu_second_nano_usd": 7, "price_request_nano_usd": 13, "customer_nano_usd": CHARGE.customer.amount,
        "provider_nano_usd": CHARGE.provider.amount, "fee_nano_usd": CHARGE.fee.amount, "exact": True,
    }  # fmt: skip


async def insert(books, **changes: object) -> None:
    values = row() | changes
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    async with books.pool.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute(
            f"insert into usage_record ({names}) values ({marks})".encode(), list(values.values())
        )


class TestUsageRecord:
    async def test_the_raters_charge_is_accepted(self, books):
        await insert(books)

    @pytest.mark.parametrize(
        "changes",
        [
            {
                "customer_nano_usd": CHARGE.customer.amount + 1,
                "provider_nano_usd": CHARGE.provider.amount + 1,
            },
            {"tokens_cached": 4},
            {"tokens_prompt": 17},
            {"gpu_ms": 1_428},
            {"image_pixel_steps": 2_666_667},
            {"requests_priced": 0},
            {"price_cached_nano_usd": 9},
        ],
    )
    async def test_an_amount_that_is_not_quantity_times_price_is_refused(self, books, changes):
        with pytest.raises(psycopg.errors.CheckViolation, match="amount_is_usage_times_price"):
            await insert(books, **changes)

    @pytest.mark.parametrize(
        ("changes", "constraint"),
        [
            ({"tokens_cached": 17}, "cached_is_part_of_prompt"),
            ({"tokens_cached": -1}, "cached_is_part_of_prompt"),
            ({"requests_priced": 2}, "quantities_in_range"),
            ({"gpu_ms": -1}, "quantities_in_range"),
            ({"image_pixel_steps": -1}, "quantities_in_range"),
            ({"requests_priced": 0, "price_request_nano_usd": -1}, "prices_not_negative"),
            ({"tokens_cached": 0, "price_cached_nano_usd": -10}, "prices_not_negative"),
            ({"fee_nano_usd": -1, "provider_nano_usd": 1}, "split_not_negative"),
        ],
    )
    async def test_what_is_no_quantity_or_price_is_refused_even_where_the_amount_is_right(
        self, books, changes, constraint
    ):
        with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
            await insert(books, **(FREE | changes))

    async def test_what_is_rounded_is_rounded_down_as_the_rater_does(self, books):
        """10.003 nano-USD of GPU are 10, and so are 10.5."""
        await insert(books, gpu_ms=1_430)
        await insert(books, image_pixel_steps=2_333_334)

    @pytest.mark.parametrize("huge", [2**63, 10**30, float("nan"), "NaN"])
    async def test_what_no_bigint_holds_is_refused(self, books, huge):
        with pytest.raises(psycopg.errors.DataError):
            await insert(books, price_request_nano_usd=huge)

    async def test_a_product_over_a_bigint_is_an_error_and_does_not_wrap(self, books):
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            await insert(books, gpu_ms=2**62, price_gpu_second_nano_usd=4)
