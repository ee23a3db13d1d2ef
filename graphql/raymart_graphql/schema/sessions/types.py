"""Sessions as their owner sees them."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_core.errors import NotAuthenticated
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import expose
from raymart_graphql.fields import resolved
from raymart_graphql.relay import Node, global_id
from raymart_marketplace.accounts.session_models import LoginMethod, SessionEnd, UserSession

expose(
    LoginMethod,
    name="LoginMethod",
    description="How a person proved who they are.",
    values={
        "PASSWORD": "With e-mail address and password.",
        "OIDC": "An OpenID provider vouched for them.",
        "WALLET": "They signed with their Solana key.",
    },
)
expose(
    SessionEnd,
    name="SessionEnd",
    description="Why a session was ended before its time.",
    values={
        "LOGOUT": "It was logged out.",
        "REVOKED": "Its owner ended it from elsewhere.",
        "REUSE": "One of its refresh tokens was used twice, so somebody has a copy.",
        "PASSWORD": "The password was changed or reset.",
        "SECOND_FACTOR": "The second factor was switched on or off.",
        "OPERATOR": "An operator of the marketplace ended it.",
    },
)


@strawberry.type(description="A log-in on one device. Only its owner sees it.")
class Session(Node):
    """Visible to the person whose it is."""

    uuid: strawberry.Private[UUID]
    user_uuid: strawberry.Private[UUID]
    method: LoginMethod = strawberry.field(description="How the person logged in.")
    user_agent: str = strawberry.field(description="What the client called itself; empty if it said nothing.")
    address: str = strawberry.field(description="Network address of its log-in or last refresh.")
    created_at: datetime = strawberry.field(description="When the person logged in.")
    last_used_at: datetime = strawberry.field(description="When it was last refreshed.")
    expires_at: datetime = strawberry.field(description="When it ends, however busy it is.")
    second_factor_at: datetime | None = strawberry.field(
        description="When a second factor was last proven in it; null for never."
    )
    revoked_at: datetime | None = strawberry.field(
        description="When it was ended before its time; null while it is open."
    )
    revoked_why: SessionEnd | None = strawberry.field(description="Why; null while it is open.")

    @classmethod
    def of(cls, row: UserSession) -> "Session":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.SESSION, row.id),
            uuid=row.id,
            user_uuid=row.user_id,
            method=row.method,
            user_agent=row.user_agent,
            address=row.address,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            expires_at=row.expires_at,
            second_factor_at=row.second_factor_at,
            revoked_at=row.revoked_at,
            revoked_why=row.revoked_why,
        )

    async def owner(self, _operation: Operation) -> UUID | None:
        """No organization's: the person's own."""
        return None

    @resolved("Whether this request came in this session.")
    async def is_current(self, info: Info) -> bool:
        """By the access token's session."""
        try:
            return (await info.context.claims()).session_id == self.uuid
        except NotAuthenticated:  # Of a login, which needs no credentials and may come with stale ones.
            return False
