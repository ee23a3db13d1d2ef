"""Loaders of keys."""

from collections import defaultdict
from uuid import UUID

from sqlalchemy import Select
from strawberry.dataloader import DataLoader

from raymart_graphql.keyset import Listing, pages_by_parent
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.identity.types import ApiKey
from raymart_graphql.schema.keys.queries import KeySummary
from raymart_marketplace.accounts import models as accounts
from raymart_marketplace.accounts.key_filters import KeyFilter

Asked = tuple[UUID, KeyFilter, Page]
"""Whose keys, which of them, and which page."""


class KeyLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.summary = self._known(accounts.ApiKey, KeySummary.of)
        self.summaries_of_project = self._pages(SUMMARIES, accounts.ApiKey.project_id)
        self.of_service_account = self._pages(_listing(KeyFilter()), accounts.ApiKey.service_account_id)
        self.of_organization: DataLoader[Asked, Connection[ApiKey]] = DataLoader(load_fn=self._fetch)

    async def _fetch(self, keys: list[Asked]) -> list[Connection[ApiKey]]:
        """One statement for each filter and page that differ."""
        parents: dict[tuple[KeyFilter, Page], list[UUID]] = defaultdict(list)
        for organization_id, wanted, page in keys:
            parents[wanted, page].append(organization_id)
        found: dict[Asked, Connection[ApiKey]] = {}
        for (wanted, page), organization_ids in parents.items():
            async with self._reading.session() as session:
                pages = await pages_by_parent(
                    session,
                    _listing(wanted),
                    accounts.Project.organization_id,
                    parents=organization_ids,
                    page=page,
                    joined=_join_project,
                )
            found |= {(parent, wanted, page): connection for parent, connection in pages.items()}
        return [found[key] for key in keys]


SUMMARIES = Listing(
    name="api_keys",
    entity=accounts.ApiKey,
    key=accounts.ApiKey.id,
    show=KeySummary.of,
    newest_first=True,
)


def _listing(wanted: KeyFilter) -> Listing[accounts.ApiKey, ApiKey]:
    return Listing(
        name="api_keys",
        entity=accounts.ApiKey,
        key=accounts.ApiKey.id,
        show=ApiKey.of,
        newest_first=True,
        where=wanted.conditions(),
    )


def _join_project(statement: Select[accounts.ApiKey]) -> Select[accounts.ApiKey]:
    return statement.join(accounts.Project, accounts.Project.id == accounts.ApiKey.project_id)
