"""Who controls a pool: one link at a time, by a lease in the database; and what it reported of the pool's cluster.

Two controllers would apply their placements in turn and each undo the other's: Serve's schema is the whole truth. The
lease outlives its link by `LEASE_S` at most, so that a second controller, which keeps asking, takes over from a dead one.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import RaymartError
from raymart_core.wire.link import Report
from raymart_marketplace.supply.membership.models import PoolStatus
from raymart_marketplace.supply.models import Node, Pool

LEASE_S = 15.0
RENEW_S = 5.0
"""How often a live link renews its lease."""
NAMES_MAX = 10_000
UNKNOWN_MAX = 64
_CHARACTERS_MAX = 200


class ControlHeld(RaymartError):
    """Another link controls the pool."""

    def __init__(self, pool: str, holder: str) -> None:
        super().__init__(
            f"pool {pool!r} is controlled by {holder!r} already, and has one controller at a time; "
            f"stop that one, or leave this one running: it takes over {LEASE_S:g} s after the other is gone"
        )
        self.holder = holder


async def take_control(session: AsyncSession, *, pool_id: UUID, node_id: UUID, link_id: UUID) -> None:
    """Control the pool by this link, or go on doing so. Locks the pool's row of status. Raises: ControlHeld.

    A newer link of the same machine takes over at once.
    """
    until = func.clock_timestamp() + timedelta(seconds=LEASE_S)
    made = insert(PoolStatus).values(
        pool_id=pool_id, controller_id=node_id, link_id=link_id, held_until=until
    )
    taken = made.on_conflict_do_update(
        index_elements=[PoolStatus.pool_id],
        set_={"controller_id": node_id, "link_id": link_id, "held_until": until},
        where=or_(PoolStatus.controller_id == node_id, PoolStatus.held_until <= func.clock_timestamp()),
    )
    if await session.scalar(taken.returning(PoolStatus.pool_id)) is not None:
        return
    statement = (
        select(Pool.slug, Node.name)
        .join(PoolStatus, PoolStatus.pool_id == Pool.id)
        .join(Node, Node.id == PoolStatus.controller_id)
        .where(Pool.id == pool_id)
    )
    pool, holder = (await session.execute(statement)).one()
    raise ControlHeld(pool, holder)


async def give_control_up(session: AsyncSession, link_id: UUID) -> None:
    """The link is gone: whoever asks next controls the pool. Nothing happens when the link controlled none."""
    await session.execute(
        update(PoolStatus).where(PoolStatus.link_id == link_id).values(held_until=func.clock_timestamp())
    )


async def keep_report(session: AsyncSession, *, pool_id: UUID, link_id: UUID, report: Report) -> None:
    """Keep what the pool's controller says of the cluster; what a link says that controls it no longer is dropped."""
    await session.execute(
        update(PoolStatus)
        .where(PoolStatus.pool_id == pool_id, PoolStatus.link_id == link_id)
        .values(
            generation=report.generation,
            reported_at=func.clock_timestamp(),
            ray_nodes=_texts(report.ray_nodes[:NAMES_MAX]),
            unknown_applications=_texts(report.unknown[:UNKNOWN_MAX]),
        )
    )


def _texts(names: tuple[str, ...]) -> list[str]:
    # PostgreSQL's text holds no NUL.
    return [name.replace("\0", "")[:_CHARACTERS_MAX] for name in names]
