"""Invoices, credit notes and refunds."""

import strawberry


@strawberry.type
class InvoiceQuery:
    """Root fields of the domain."""
