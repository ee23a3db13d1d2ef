"""What is shown of endpoints, models and machines: one row each, by key."""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.statistics.models import NodePresence, ServiceFigures, Span
from raymart_marketplace.supply.models import Endpoint


async def figures_of(
    session: AsyncSession, asked: Collection[tuple[UUID, Span]]
) -> Mapping[tuple[UUID, Span], ServiceFigures]:
    """The figures of these endpoints and models; those that were not tried in the span are missing."""
    row = ServiceFigures
    found = await session.scalars(select(row).where(tuple_(row.subject_id, row.span).in_(list(asked))))
    return {(each.subject_id, each.span): each for each in found}


async def uptime_of_nodes(session: AsyncSession, node_ids: Collection[UUID]) -> Mapping[UUID, float]:
    """The share of the last day's samples (0 to 1) in which each machine was linked; missing without samples."""
    row = NodePresence
    statement = (
        select(row.node_id, func.sum(row.seen), func.sum(row.samples))
        .where(row.node_id.in_(node_ids), row.hour >= func.clock_timestamp() - text("interval '24 hours'"))
        .group_by(row.node_id)
    )
    return {node_id: int(seen) / int(samples) for node_id, seen, samples in await session.execute(statement)}


async def uptime_of_endpoints(session: AsyncSession, endpoint_ids: Collection[UUID]) -> Mapping[UUID, float]:
    """The same of the machines that serve these endpoints."""
    rows = await session.execute(select(Endpoint.id, Endpoint.node_id).where(Endpoint.id.in_(endpoint_ids)))
    nodes: dict[UUID, UUID] = {endpoint_id: node_id for endpoint_id, node_id in rows}  # noqa: C416 (rows, not tuples)
    uptimes = await uptime_of_nodes(session, set(nodes.values()))
    return {endpoint_id: uptimes[node_id] for endpoint_id, node_id in nodes.items() if node_id in uptimes}
