"""Who a request is made for."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated customer of inference: whose money pays, and which key or user asked."""

    organization_id: UUID
    project_id: UUID
    api_key_id: UUID | None
    """None when a user's access token made the request."""
    user_id: UUID | None
    """None when an API key made the request."""
