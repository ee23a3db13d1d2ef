"""The lists of the domain and their order."""

from raymart_billing.invoices import models
from raymart_billing.refunds import models as refunds
from raymart_graphql.keyset import Listing
from raymart_graphql.schema.invoices.types import CreditNote, Invoice, InvoiceLine, Refund

INVOICES = Listing(
    name="invoices", entity=models.Invoice, key=models.Invoice.id, show=Invoice.of, newest_first=True
)
INVOICE_LINES = Listing(
    name="invoice_lines", entity=models.InvoiceLine, key=models.InvoiceLine.position, show=InvoiceLine.of
)
CREDIT_NOTES = Listing(
    name="credit_notes",
    entity=models.CreditNote,
    key=models.CreditNote.id,
    show=CreditNote.of,
    newest_first=True,
)
REFUNDS = Listing(
    name="refunds", entity=refunds.Refund, key=refunds.Refund.id, show=Refund.of, newest_first=True
)
