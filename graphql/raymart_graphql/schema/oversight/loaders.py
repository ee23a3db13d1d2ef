"""Loaders of suspensions and flags."""

from uuid import UUID

from sqlalchemy import select
from strawberry.dataloader import DataLoader

from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.oversight.types import Suspension, UsageFlag
from raymart_marketplace.oversight import models
from raymart_marketplace.oversight.suspension import withheld_providers


class OversightLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.suspension_of: DataLoader[UUID, Suspension | None] = DataLoader(load_fn=self._suspensions)
        self.flag_of_usage: DataLoader[UUID, UsageFlag | None] = DataLoader(load_fn=self._flags)
        self.is_withheld: DataLoader[UUID, bool] = DataLoader(load_fn=self._withheld)

    async def _suspensions(self, subject_ids: list[UUID]) -> list[Suspension | None]:
        """Those that stand. Ids are unique over all kinds."""
        row = models.Suspension
        statement = select(row).where(row.subject_id.in_(subject_ids), row.lifted_at.is_(None))
        async with self._reading.session() as session:
            found = {each.subject_id: Suspension.of(each) for each in await session.scalars(statement)}
        return [found.get(subject_id) for subject_id in subject_ids]

    async def _flags(self, usage_ids: list[UUID]) -> list[UsageFlag | None]:
        row = models.UsageFlag
        statement = select(row).where(row.usage_id.in_(usage_ids), row.cleared_at.is_(None))
        async with self._reading.session() as session:
            found = {each.usage_id: UsageFlag.of(each) for each in await session.scalars(statement)}
        return [found.get(usage_id) for usage_id in usage_ids]

    async def _withheld(self, provider_ids: list[UUID]) -> list[bool]:
        async with self._reading.session() as session:
            withheld = await withheld_providers(session, provider_ids)
        return [provider_id in withheld for provider_id in provider_ids]
