"""Usage and its rollups."""

import strawberry


@strawberry.type
class UsageMutation:
    """Root fields of the domain."""
