"""Background work and its runs."""

import strawberry


@strawberry.type
class WorkQuery:
    """Root fields of the domain."""
