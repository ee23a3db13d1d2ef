"""What was suspended, flagged and switched, and finding people and organizations."""

from typing import Annotated

import strawberry
from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute

from raymart_core.errors import InvalidRequest
from raymart_graphql.context import Info
from raymart_graphql.enums import OrganizationKind
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.identity.types import Organization, User
from raymart_graphql.schema.oversight.enums import SubjectKind
from raymart_graphql.schema.oversight.types import FeatureSwitch, Suspension, UsageFlag
from raymart_marketplace.accounts import models as accounts
from raymart_marketplace.oversight import models
from raymart_marketplace.oversight.switches import load_switches

SEARCH_CHARACTERS_MAX = 200
Search = Annotated[
    str | None, strawberry.argument(description="A part of a name, whatever the case; without it, all.")
]
Kind = Annotated[SubjectKind | None, strawberry.argument(description="Only of this kind.")]
Standing = Annotated[
    bool | None,
    strawberry.argument(description="True: those that stand; false: those that ended; null: both."),
]
OfKind = Annotated[OrganizationKind | None, strawberry.argument(description="Only of this kind.")]


@strawberry.type
class OversightQuery:
    """Root fields of the domain."""

    @listed("Suspensions, newest first. For administrators.")
    async def suspensions(
        self, info: Info, page: Page, kind: Kind = None, *, standing: Standing = True
    ) -> Connection[Suspension]:
        """By id."""
        row = models.Suspension
        where = [] if kind is None else [row.kind == kind]
        if standing is not None:
            where.append(row.lifted_at.is_(None) if standing else row.lifted_at.is_not(None))
        listing = Listing(
            name="suspensions",
            entity=row,
            key=row.id,
            show=Suspension.of,
            newest_first=True,
            where=tuple(where),
        )
        # The rule lets in those who oversee the market; of these, support is confined like a tenant.
        async with info.context.reading.trusted_session() as session:
            return await page_of(session, listing, page)

    @listed("Flagged usage, newest first. For administrators.")
    async def flagged_usage(
        self, info: Info, page: Page, *, standing: Standing = True
    ) -> Connection[UsageFlag]:
        """Flags by id."""
        row = models.UsageFlag
        where = (
            ()
            if standing is None
            else (row.cleared_at.is_(None) if standing else row.cleared_at.is_not(None),)
        )
        listing = Listing(
            name="flagged_usage", entity=row, key=row.id, show=UsageFlag.of, newest_first=True, where=where
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @resolved("How every feature stands that can be switched. For administrators.")
    async def feature_switches(self, info: Info) -> list[FeatureSwitch]:
        """By the code's own list."""
        async with info.context.reading.trusted_session() as session:
            found = await load_switches(session)
        return [FeatureSwitch.of(feature, switch) for feature, switch in found.items()]

    @listed("People, by e-mail address or name, oldest first. For administrators.")
    async def users(self, info: Info, page: Page, search: Search = None) -> Connection[User]:
        """By id."""
        row = accounts.User
        where = _part_of(search, row.email, row.name)
        listing = Listing(name="users", entity=row, key=row.id, show=User.of, where=where)
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @listed("Organizations, by name or slug, oldest first. For administrators.")
    async def organizations(
        self, info: Info, page: Page, search: Search = None, kind: OfKind = None
    ) -> Connection[Organization]:
        """By id."""
        row = accounts.Organization
        where = _part_of(search, row.slug, row.name)
        if kind is not None:
            where = (*where, row.kind == kind)
        listing = Listing(name="all_organizations", entity=row, key=row.id, show=Organization.of, where=where)
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)


def _part_of(search: str | None, *columns: InstrumentedAttribute[str]) -> tuple[ColumnElement[bool], ...]:
    """Rows that have `search` in one of `columns`. Raises: InvalidRequest when it is too long."""
    if not search:
        return ()
    if len(search) > SEARCH_CHARACTERS_MAX:
        raise InvalidRequest(f"at most {SEARCH_CHARACTERS_MAX} characters", param="search")
    return (or_(*(column.icontains(search, autoescape=True) for column in columns)),)
