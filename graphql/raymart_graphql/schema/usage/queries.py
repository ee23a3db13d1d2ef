"""Usage and its rollups."""

import strawberry


@strawberry.type
class UsageQuery:
    """Root fields of the domain."""
