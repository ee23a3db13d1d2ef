"""What a node may see of its provider's supply when it asks with its own key: `raymart-provider nodes`, `offers`, ..."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.supply.benchmarks.models import Benchmark, BenchmarkCheck
from raymart_marketplace.supply.models import Node, Offer, OfferState, Pool

ROWS_MAX = 100


async def own_nodes(session: AsyncSession, provider_id: UUID | None) -> Sequence[tuple[Node, Pool]]:
    """The provider's living nodes with their pools, oldest first; nothing for a house pool's controller."""
    statement = (
        select(Node, Pool)
        .join(Pool, Pool.id == Node.pool_id)
        .where(Node.provider_id == provider_id, Node.revoked_at.is_(None))
        .order_by(Node.id)
        .limit(ROWS_MAX)
    )
    return [(node, pool) for node, pool in await session.execute(statement)]


async def own_offers(session: AsyncSession, provider_id: UUID | None) -> Sequence[tuple[Offer, str, str]]:
    """The provider's offers that are not closed, each with its model's slug and its revision's digest."""
    statement = (
        select(Offer, Model.slug, ModelRevision.digest)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(Offer.provider_id == provider_id, Offer.state != OfferState.CLOSED)
        .order_by(Offer.id)
        .limit(ROWS_MAX)
    )
    return [(offer, slug, digest) for offer, slug, digest in await session.execute(statement)]


async def last_checks(session: AsyncSession, node_id: UUID) -> Sequence[BenchmarkCheck]:
    """The checks of the node's last benchmark that has an end, in the order in which they were made."""
    last = (
        select(Benchmark.id)
        .where(Benchmark.node_id == node_id, Benchmark.finished_at.is_not(None))
        .order_by(Benchmark.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        select(BenchmarkCheck).where(BenchmarkCheck.benchmark_id == last).order_by(BenchmarkCheck.position)
    )
    return (await session.scalars(statement)).all()
