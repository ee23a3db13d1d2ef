"""Loaders of invoices, credit notes and refunds."""

from raymart_billing.invoices import models as invoices
from raymart_billing.refunds import models as refunds
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.invoices.listings import CREDIT_NOTES, INVOICE_LINES, INVOICES, REFUNDS
from raymart_graphql.schema.invoices.types import BillingProfile, CreditNote, Invoice, Refund


class InvoiceLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.invoice = self._known(invoices.Invoice, Invoice.of)
        self.invoices_of_organization = self._pages(INVOICES, invoices.Invoice.organization_id)
        self.lines_of_invoice = self._pages(INVOICE_LINES, invoices.InvoiceLine.invoice_id)
        self.credit_note = self._known(invoices.CreditNote, CreditNote.of)
        self.credit_notes_of_invoice = self._pages(CREDIT_NOTES, invoices.CreditNote.invoice_id)
        self.refund = self._known(refunds.Refund, Refund.of)
        self.refunds_of_organization = self._pages(REFUNDS, refunds.Refund.organization_id)
        self.billing_profile_of_organization = self._by(
            invoices.BillingProfile, invoices.BillingProfile.organization_id, BillingProfile.of
        )
