"""Invoices and refunds of all customers, for administrators. Customers find theirs on their organization."""

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import listed
from raymart_graphql.keyset import page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.invoices.listings import INVOICES, REFUNDS
from raymart_graphql.schema.invoices.types import Invoice, Refund


@strawberry.type
class InvoiceQuery:
    """Root fields of the domain."""

    @listed("Every customer's invoices, newest first. For administrators.")
    async def invoices(self, info: Info, page: Page) -> Connection[Invoice]:
        """Invoices by id."""
        async with info.context.reading.session() as session:
            return await page_of(session, INVOICES, page)

    @listed("Every refund, newest first. For administrators.")
    async def refunds(self, info: Info, page: Page) -> Connection[Refund]:
        """Refunds by id."""
        async with info.context.reading.session() as session:
            return await page_of(session, REFUNDS, page)
