"""Whether a node's link is up, as every process of the marketplace knows it: by the node's row.

Which link is up has an id, because a node may have come back by another process before the one that lost it has said so:
what is lost is that link and not the node. A lost link changes no state; `supply.absence` does, after a grace.
"""

from collections.abc import Collection, Mapping
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, TableValuedAlias, Uuid, column, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.supply.life_models import NodeEventKind
from raymart_marketplace.supply.models import Node, Provider, ProviderState
from raymart_marketplace.supply.node_life import SYSTEM, TRANSITIONS, change_many, note
from raymart_marketplace.supply.refusal import LinkRefused

log = structlog.get_logger()

SKEW_MS_MAX = 5_000
"""A clock further off than that is reported."""
SKEW_STEP_MS = 250
"""Smaller changes of the skew are not written."""
WELCOME_PROVIDERS = (ProviderState.APPLIED, ProviderState.ACTIVE)
"""Whose nodes may have links."""
_SKEW_MS_KEPT = 10**15
_AWAY = tuple(TRANSITIONS[NodeEventKind.LINKED])


async def link_up(
    session: AsyncSession,
    node_id: UUID,
    link_id: UUID,
    *,
    qualified: bool = True,
) -> None:
    """The node has a link, `link_id`, whatever links it had before.

    A node that was missed or is new becomes ready, if it is qualified: `qualified` says that nothing is to be measured
    first, and is kept. A retired node stays retired.
    """
    await links_up(session, {node_id: link_id}, qualified=qualified)


async def links_up(
    session: AsyncSession, links: Mapping[UUID, UUID], *, qualified: bool = True
) -> Collection[UUID]:
    """Each node has a link, whatever links it had before: `link_up` of many, by node id.

    Returns the nodes that are not revoked. Locks their rows in id order.
    """
    if not links:
        return ()
    await _lock(session, links)
    asked = _asked(links)
    moment = func.clock_timestamp()
    values: dict[str, object] = {"link_id": asked.c.link_id, "link_lost_at": None, "last_seen_at": moment}
    if qualified:
        values["qualified_at"] = func.coalesce(Node.qualified_at, moment)
    statement = (
        update(Node)
        .where(Node.id == asked.c.node_id, Node.revoked_at.is_(None))
        .values(values)
        .returning(Node.id, Node.state)
    )
    states = {node_id: state for node_id, state in await session.execute(statement)}  # noqa: C416  (rows, not tuples)
    away = [node_id for node_id, state in states.items() if state in _AWAY]
    await change_many(session, away, NodeEventKind.LINKED)
    return frozenset(states)


async def hold_link(
    session: AsyncSession, node_id: UUID, link_id: UUID, *, first: bool, qualified: bool = True
) -> None:
    """The link is up: for the `first` time, or still; see `link_up`. Raises: LinkRefused (superseded) when the node has a newer one."""
    if first:
        await link_up(session, node_id, link_id, qualified=qualified)
        return
    if node_id in await links_seen(session, {node_id: link_id}):
        return
    newer = await session.scalar(select(Node.link_id).where(Node.id == node_id))
    if newer is not None:
        raise LinkRefused(
            "superseded",
            "another agent proved the same node key; run only one agent per state directory",
            retry=False,
        )
    # It was taken for gone while this process was held up.
    await link_up(session, node_id, link_id, qualified=qualified)


async def links_seen(session: AsyncSession, links: Mapping[UUID, UUID]) -> Collection[UUID]:
    """The links, by node id, are up still. Returns the nodes whose present link it is."""
    if not links:
        return ()
    await _lock(session, links)
    asked = _asked(links)
    statement = (
        update(Node)
        .where(Node.id == asked.c.node_id, Node.link_id == asked.c.link_id, Node.revoked_at.is_(None))
        .values(last_seen_at=func.clock_timestamp())
        .returning(Node.id)
    )
    return frozenset(await session.scalars(statement))


async def links_doubted(session: AsyncSession, links: Mapping[UUID, UUID]) -> Collection[UUID]:
    """`links_seen`, for the roll: the nodes whose present link it is not, or whose provider is not welcome any more.

    One statement and, of ten thousand links in order, no row. Locks the nodes' rows in id order.
    """
    asked = _asked(links)
    locked = (
        select(Node.id)
        .where(Node.id == func.any(literal(list(links), ARRAY(Uuid))))
        .order_by(Node.id)
        .with_for_update(key_share=True)
        .cte("locked")
    )
    seen = (
        update(Node)
        .where(
            Node.id == locked.c.id,
            Node.id == asked.c.node_id,
            Node.link_id == asked.c.link_id,
            Node.revoked_at.is_(None),
        )
        .values(last_seen_at=func.clock_timestamp())
        .returning(Node.id, Node.provider_id)
        .cte("seen")
    )
    everyone = _asked(links, name="everyone")
    doubted = (
        select(everyone.c.node_id)
        .outerjoin_from(everyone, seen, seen.c.id == everyone.c.node_id)
        .outerjoin(Provider, Provider.id == seen.c.provider_id)
        .where(or_(seen.c.id.is_(None), Provider.state.not_in(WELCOME_PROVIDERS)))
    )
    return frozenset(await session.scalars(doubted))


async def links_lost(session: AsyncSession, links: Mapping[UUID, UUID]) -> None:
    """The links, by node id, are gone. A node that has another link by now is left alone."""
    if links:
        await _lock(session, links)
        asked, moment = _asked(links), func.clock_timestamp()
        await session.execute(
            update(Node)
            .where(Node.id == asked.c.node_id, Node.link_id == asked.c.link_id)
            .values(link_id=None, link_lost_at=moment, last_seen_at=moment)
        )


async def keep_clock_skew(session: AsyncSession, node_id: UUID, skew_ms: int) -> None:
    """The node's clock is ahead of ours by `skew_ms`; it is written down when that grows beyond `SKEW_MS_MAX`."""
    node = await session.get(Node, node_id, with_for_update={"key_share": True}, populate_existing=True)
    if node is None or node.revoked_at is not None:
        return
    was_off = node.clock_skew_ms is not None and is_skewed(node.clock_skew_ms)
    node.clock_skew_ms = max(-_SKEW_MS_KEPT, min(skew_ms, _SKEW_MS_KEPT))
    if is_skewed(skew_ms) and not was_off:
        log.warning("node.clock_skewed", node=node.name, skew_ms=skew_ms)
        ahead = "ahead of" if skew_ms > 0 else "behind"
        reason = f"its clock is {abs(skew_ms) / 1000:.1f} s {ahead} ours; let it follow an NTP server"
        await note(session, node, NodeEventKind.CLOCK_SKEWED, reason=reason, by=SYSTEM)
    await session.flush()


def is_skewed(skew_ms: int) -> bool:
    """Whether a clock is so far off that its owner is to be told. Nothing of ours goes by a node's clock."""
    return abs(skew_ms) > SKEW_MS_MAX


async def _lock(session: AsyncSession, node_ids: Collection[UUID]) -> None:
    """Lock the rows in id order, which the statements below do not keep: who changes several at once then never waits in a ring."""
    if len(node_ids) > 1:
        ids = literal(list(node_ids), ARRAY(Uuid))
        await session.execute(
            select(Node.id).where(Node.id == func.any(ids)).order_by(Node.id).with_for_update(key_share=True)
        )


def _asked(links: Mapping[UUID, UUID], *, name: str = "asked") -> TableValuedAlias:
    """The links as rows; two arrays are two parameters, however many links there are."""
    pairs = func.unnest(
        literal(list(links), ARRAY(Uuid)),
        literal(list(links.values()), ARRAY(Uuid)),
    )
    return pairs.table_valued(column("node_id", Uuid), column("link_id", Uuid)).render_derived(name=name)
