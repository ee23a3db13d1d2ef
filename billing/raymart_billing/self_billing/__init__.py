"""Self-billing invoices: what providers supplied and were paid, written by the marketplace in their names."""

from raymart_billing.self_billing.documents import (
    readable_self_billing,
    self_billing_csv,
    self_billing_sheet,
)
from raymart_billing.self_billing.models import SelfBillingInvoice
from raymart_billing.self_billing.service import (
    SERIES,
    due_payments,
    invoice_of_payment,
    issue_self_billing_invoice,
    self_billing_content,
)

__all__ = [
    "SERIES",
    "SelfBillingInvoice",
    "due_payments",
    "invoice_of_payment",
    "issue_self_billing_invoice",
    "readable_self_billing",
    "self_billing_content",
    "self_billing_csv",
    "self_billing_sheet",
]
