"""Rate cards, caps, fees and asks."""

import strawberry


@strawberry.type
class PricingQuery:
    """Root fields of the domain."""
