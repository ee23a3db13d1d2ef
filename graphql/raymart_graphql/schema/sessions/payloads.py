"""What logging in and refreshing give back."""

from datetime import datetime

import strawberry

from raymart_graphql.context import Operation
from raymart_graphql.schema.identity.types import User
from raymart_graphql.schema.sessions.types import Session
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.accounts.sessions import OpenSession


@strawberry.type
class SessionPayload(Payload):
    """A session's tokens, or why there are none."""

    token: str | None = strawberry.field(
        default=None, description="Access token for `Authorization: Bearer`; null when there are user errors."
    )
    expires_at: datetime | None = strawberry.field(
        default=None, description="When the access token ends; null when there are user errors."
    )
    refresh_token: str | None = strawberry.field(
        default=None,
        description="Good for one `refreshSession`, which gives the next. Keep it secret; null when there are user errors.",
    )
    refresh_expires_at: datetime | None = strawberry.field(
        default=None,
        description="When the refresh token ends unless it is used; null when there are user errors.",
    )
    session: Session | None = strawberry.field(
        default=None, description="The session; null when there are user errors."
    )
    challenge: str | None = strawberry.field(
        default=None,
        description="Set in the place of tokens when a second factor is enrolled: send it to `completeLogin` with a code.",
    )
    challenge_expires_at: datetime | None = strawberry.field(
        default=None, description="When the challenge ends; null without one."
    )
    user: User | None = strawberry.field(
        default=None, description="The person; null when there are user errors."
    )

    def show(self, operation: Operation, opened: OpenSession) -> None:
        """Fill in the tokens of `opened`, with a fresh access token."""
        tokens = operation.services.tokens
        self.token = tokens.issue(opened.user.id, session_id=opened.session.id)
        self.expires_at = tokens.verify(self.token).expires_at
        self.refresh_token = opened.refresh_token
        self.refresh_expires_at = opened.refresh_expires_at
        self.session = Session.of(opened.session)
        self.user = User.of(opened.user)


@strawberry.type(description="What login gives back.")
class LoginPayload(SessionPayload):
    """A session's tokens, or why there are none."""


@strawberry.type(description="What refreshSession gives back.")
class RefreshSessionPayload(SessionPayload):
    """The session's next tokens, or why there are none."""


@strawberry.type(description="What revokeSession gives back.")
class RevokeSessionPayload(Payload):
    """The session that ended, or why it did not."""

    session: Session | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type(description="What revokeOtherSessions gives back.")
class RevokeOtherSessionsPayload(Payload):
    """How many ended."""

    revoked: int | None = strawberry.field(
        default=None, description="How many sessions ended by this; null when there are user errors."
    )


@strawberry.type(description="What logout gives back.")
class LogoutPayload(Payload):
    """The session that ended, or why it did not."""

    session: Session | None = strawberry.field(default=None, description="Null when there are user errors.")
