"""Loaders of the audit log."""

from collections import defaultdict
from uuid import UUID

from sqlalchemy import select
from strawberry.dataloader import DataLoader

from raymart_graphql.keyset import pages_by_parent
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.audit.types import AuditEntry, listing
from raymart_marketplace.audit import AuditEntry as Row
from raymart_marketplace.audit import AuditOrigin
from raymart_marketplace.audit.search import AuditFilter

Asked = tuple[UUID, AuditFilter, Page]
"""Whose log, which entries, and which page."""


class AuditLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.of_organization: DataLoader[Asked, Connection[AuditEntry]] = DataLoader(load_fn=self._pages_of)
        self.origin: DataLoader[int, AuditOrigin | None] = DataLoader(load_fn=self._origins)

    async def _pages_of(self, keys: list[Asked]) -> list[Connection[AuditEntry]]:
        """One statement for each filter and page that differ."""
        parents: dict[tuple[AuditFilter, Page], list[UUID]] = defaultdict(list)
        for organization_id, wanted, page in keys:
            parents[wanted, page].append(organization_id)
        found: dict[Asked, Connection[AuditEntry]] = {}
        for (wanted, page), organization_ids in parents.items():
            async with self._reading.session() as session:
                pages = await pages_by_parent(
                    session, listing(wanted), Row.organization_id, parents=organization_ids, page=page
                )
            found |= {(parent, wanted, page): connection for parent, connection in pages.items()}
        return [found[key] for key in keys]

    async def _origins(self, entry_ids: list[int]) -> list[AuditOrigin | None]:
        async with self._reading.session() as session:
            rows = await session.scalars(select(AuditOrigin).where(AuditOrigin.entry_id.in_(entry_ids)))
            found = {row.entry_id: row for row in rows}
        return [found.get(entry_id) for entry_id in entry_ids]
