"""Join tokens that no machine has used yet: which are open, and taking one back."""

from uuid import UUID

from sqlalchemy import ColumnElement, func
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.supply.models import JoinToken

OPEN: tuple[ColumnElement[bool], ...] = (
    JoinToken.used_at.is_(None),
    JoinToken.expires_at > func.clock_timestamp(),
)
"""What makes a token one that a machine may still spend; `enrolment` asks the same."""


async def revoke_join_token(session: AsyncSession, *, provider_id: UUID, token_id: UUID) -> JoinToken:
    """End the provider's token now; one that has ended stays as it is. Locks its row: of a machine that joins and this, one wins.

    Raises: NotFound also when it is another provider's, Conflict when a machine has joined with it.
    """
    token = await session.get(
        JoinToken, token_id, with_for_update={"key_share": True}, populate_existing=True
    )
    if token is None or token.provider_id != provider_id:
        raise NotFound(
            f"the provider has no join token {show(Prefix.JOIN_TOKEN, token_id)!r}; see its `joinTokens`",
            param="join_token_id",
        )
    if token.used_at is not None:
        raise Conflict(
            "a machine has joined with this token; end that machine instead (`retireNode`)",
            param="join_token_id",
        )
    token.expires_at = func.least(JoinToken.expires_at, func.clock_timestamp())
    await session.flush()
    await session.refresh(token)
    return token
