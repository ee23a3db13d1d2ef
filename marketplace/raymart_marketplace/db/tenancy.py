"""Acting for a tenant: a transaction that sees and writes one tenant's rows, whatever its statements say.

The database keeps to it by row-level security (migration 0023, ADR 0017): a confined transaction has the role
`raymart_tenant`, whose policies compare rows with what was named here. Both end with the transaction, so a connection
goes back to its pool as it came.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Whose rows a transaction may touch."""

    organizations: frozenset[UUID] = frozenset()
    user_id: UUID | None = None
    """Whose own things besides: the account and its sessions."""
    sees_market: bool = False
    """Whether the market as a whole may be read: rollups of all tenants, background work."""


NOBODY = Confinement()
"""Sees what is public, and nothing of any tenant."""

# One round trip; the last argument makes each end with the transaction.
_CONFINE = text(
    "select set_config('role', 'raymart_tenant', true), set_config('app.organizations', :organizations, true),"
    " set_config('app.user', :user_id, true), set_config('app.market', :market, true)"
)
_CONFINED_TO = "raymart.tenancy.confined_to"
_RELEASE = text("select set_config('role', 'none', true)")


async def confine(session: AsyncSession, confinement: Confinement) -> None:
    """Confine the rest of the session's transaction; a repeat replaces the tenant. One round trip."""
    session.info[_CONFINED_TO] = confinement
    await session.execute(
        _CONFINE,
        {
            "organizations": "{" + ",".join(str(each) for each in sorted(confinement.organizations)) + "}",
            "user_id": str(confinement.user_id or ""),
            "market": "on" if confinement.sees_market else "",
        },
    )


async def release(session: AsyncSession) -> None:
    """Give the rest of the transaction the process's own rights back. One round trip."""
    session.info.pop(_CONFINED_TO, None)
    await session.execute(_RELEASE)


@asynccontextmanager
async def unconfined(session: AsyncSession) -> AsyncIterator[None]:
    """The process's own rights for this block, within a confined transaction: for what is no tenant's, such as the outbox."""
    confinement: Confinement | None = session.info.get(_CONFINED_TO)
    if confinement is None:
        yield
        return
    await session.flush()
    await release(session)
    yield
    await session.flush()
    await confine(session, confinement)
