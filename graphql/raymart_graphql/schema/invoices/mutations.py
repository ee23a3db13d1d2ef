"""Invoices, credit notes and refunds."""

import strawberry


@strawberry.type
class InvoiceMutation:
    """Root fields of the domain."""
