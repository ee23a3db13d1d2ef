"""The whole market's audit log."""

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import listed
from raymart_graphql.keyset import page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.audit.types import AuditEntry, Entries, listing
from raymart_marketplace.audit.search import AuditFilter


@strawberry.type
class AuditQuery:
    """Root fields of the domain."""

    @listed(
        "Who changed what, of all tenants and of the marketplace itself, newest first. For administrators."
    )
    async def audit_log(self, info: Info, page: Page, filter: Entries = None) -> Connection[AuditEntry]:  # noqa: A002 - the argument's name in the schema
        """Entries of everybody."""
        wanted = AuditFilter() if filter is None else filter.wanted()
        async with info.context.reading.session() as session:
            return await page_of(session, listing(wanted), page)
