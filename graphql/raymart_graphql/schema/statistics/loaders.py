"""Loaders of figures and uptimes."""

from uuid import UUID

from strawberry.dataloader import DataLoader

from raymart_billing.statistics import Span, figures_of, uptime_of_endpoints, uptime_of_nodes
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.statistics.types import ServiceStatistics


class StatisticsLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.service: DataLoader[tuple[UUID, Span], ServiceStatistics | None] = DataLoader(
            load_fn=self._figures
        )
        self.uptime_of_node: DataLoader[UUID, float | None] = DataLoader(load_fn=self._nodes)
        self.uptime_of_endpoint: DataLoader[UUID, float | None] = DataLoader(load_fn=self._endpoints)

    async def _figures(self, asked: list[tuple[UUID, Span]]) -> list[ServiceStatistics | None]:
        async with self._reading.session() as session:
            rows = await figures_of(session, asked)
        return [ServiceStatistics.of(rows[each]) if each in rows else None for each in asked]

    async def _nodes(self, node_ids: list[UUID]) -> list[float | None]:
        async with self._reading.session() as session:
            found = await uptime_of_nodes(session, node_ids)
        return [_rounded(found.get(node_id)) for node_id in node_ids]

    async def _endpoints(self, endpoint_ids: list[UUID]) -> list[float | None]:
        # How long a machine was linked is for everybody who may buy there; the rows are its provider's alone.
        async with self._reading.trusted_session() as session:
            found = await uptime_of_endpoints(session, endpoint_ids)
        return [_rounded(found.get(endpoint_id)) for endpoint_id in endpoint_ids]


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)
