"""Enums of pricing, exposed before any type uses them."""

from enum import Enum

from raymart_core.units import Unit
from raymart_graphql.enums import expose
from raymart_marketplace.pricing.models import RateCardState


class DayOfWeek(Enum):
    """A day in UTC, numbered as in ISO 8601."""

    MONDAY = 1
    TUESDAY = 2
    WEDNESDAY = 3
    THURSDAY = 4
    FRIDAY = 5
    SATURDAY = 6
    SUNDAY = 7


expose(
    Unit,
    name="PriceUnit",
    description="What is metered and priced.",
    values={
        "TOKEN_PROMPT": "One token of the prompt that was not read from a cache.",
        "TOKEN_COMPLETION": "One generated token that was delivered.",
        "TOKEN_CACHED": "One token of the prompt that the engine had in its cache.",
        "IMAGE_MEGAPIXEL_STEP": "A million pixels taken through one denoising step.",
        "GPU_SECOND": "One GPU reserved for one second.",
        "REQUEST": "One request of which anything was delivered.",
    },
)
expose(
    RateCardState,
    name="RateCardState",
    description="Where a rate card stands.",
    values={
        "DRAFT": "Not yet published.",
        "PUBLISHED": "In effect, or will be.",
        "RETIRED": "Has an end: its successor took its place, or it was withdrawn.",
    },
)
expose(
    DayOfWeek,
    name="DayOfWeek",
    description="A day of the week in UTC.",
    values={
        member.name: f"{member.name.capitalize()}, from midnight to midnight UTC." for member in DayOfWeek
    },
)

__all__ = ["DayOfWeek", "RateCardState", "Unit"]
