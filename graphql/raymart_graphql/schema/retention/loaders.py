"""Loader of what was kept of requests."""

from uuid import UUID

from strawberry.dataloader import DataLoader

from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_marketplace.retention.service import Retained, find_retained


class RetentionLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.of_request: DataLoader[UUID, Retained | None] = DataLoader(load_fn=self._fetch)

    async def _fetch(self, request_ids: list[UUID]) -> list[Retained | None]:
        """One statement for all."""
        async with self._reading.session() as session:
            found = {each.request_id: each for each in await find_retained(session, request_ids)}
        return [found.get(request_id) for request_id in request_ids]
