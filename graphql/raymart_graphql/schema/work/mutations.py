"""Background work and its runs."""

import strawberry


@strawberry.type
class WorkMutation:
    """Root fields of the domain."""
