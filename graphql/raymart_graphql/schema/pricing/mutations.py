"""Rate cards, caps, fees and asks."""

import strawberry


@strawberry.type
class PricingMutation:
    """Root fields of the domain."""
