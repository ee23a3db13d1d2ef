"""Loaders of exports and erasures."""

from uuid import UUID

from sqlalchemy import select
from strawberry.dataloader import DataLoader

from raymart_billing.privacy import models
from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart, each_of
from raymart_graphql.reading import Reading
from raymart_graphql.schema.privacy.types import OrganizationErasure, PrivacyExport

EXPORTS = Listing(
    name="exports",
    entity=models.PrivacyExport,
    key=models.PrivacyExport.id,
    show=PrivacyExport.of,
    newest_first=True,
)


class PrivacyLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.exports_of_organization = self._pages(EXPORTS, models.PrivacyExport.organization_id)
        self.erasure_of_organization: DataLoader[UUID, OrganizationErasure | None] = DataLoader(
            load_fn=self._erasures
        )

    async def _erasures(self, organization_ids: list[UUID]) -> list[OrganizationErasure | None]:
        """Those that stand, in one statement."""
        row = models.OrganizationErasure
        statement = select(row).where(
            row.organization_id == each_of(row.organization_id, organization_ids), row.cancelled_at.is_(None)
        )
        async with self._reading.session() as session:
            found = {
                each.organization_id: OrganizationErasure.of(each)
                for each in await session.scalars(statement)
            }
        return [found.get(organization_id) for organization_id in organization_ids]
