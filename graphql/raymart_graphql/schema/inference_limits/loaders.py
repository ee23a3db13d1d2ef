"""Loaders of limits."""

from uuid import UUID

from strawberry.dataloader import DataLoader

from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_marketplace.gateway.rate_limits.limits import NO_LIMITS, Limits
from raymart_marketplace.gateway.rate_limits.models import LimitSetter
from raymart_marketplace.gateway.rate_limits.service import set_limits_of


class InferenceLimitLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.limits_set: DataLoader[tuple[UUID, LimitSetter], Limits] = DataLoader(load_fn=self._limits)

    async def _limits(self, keys: list[tuple[UUID, LimitSetter]]) -> list[Limits]:
        """What is set for each scope, by each; one statement for all."""
        async with self._reading.session() as session:
            found = await set_limits_of(session, {scope_id for scope_id, _ in keys})
        by_key = {(one.scope_id, one.setter): one.limits for one in found}
        return [by_key.get(key, NO_LIMITS) for key in keys]
