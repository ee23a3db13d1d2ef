"""Invoices and credit notes: documents about the ledger that say what the ledger says."""

from raymart_billing.invoices.credit_notes import (
    Correction,
    create_credit_note,
    credit_note_lines,
    credit_notes_of,
    creditable,
    issue_credit_note,
    void_credit_note,
)
from raymart_billing.invoices.documents import Readable, readable_credit_note, readable_invoice
from raymart_billing.invoices.models import (
    BillingProfile,
    CreditNote,
    CreditNoteLine,
    CreditNoteState,
    Invoice,
    InvoiceLine,
    InvoiceState,
    LineKind,
)
from raymart_billing.invoices.party import Party, buyer_of, seller_of, set_billing_profile
from raymart_billing.invoices.render import render_pdf, render_pictures
from raymart_billing.invoices.service import (
    discard_draft,
    draft_invoice,
    finalize_invoice,
    invoice_lines,
    void_invoice,
)

__all__ = [
    "BillingProfile",
    "Correction",
    "CreditNote",
    "CreditNoteLine",
    "CreditNoteState",
    "Invoice",
    "InvoiceLine",
    "InvoiceState",
    "LineKind",
    "Party",
    "Readable",
    "buyer_of",
    "create_credit_note",
    "credit_note_lines",
    "credit_notes_of",
    "creditable",
    "discard_draft",
    "draft_invoice",
    "finalize_invoice",
    "invoice_lines",
    "issue_credit_note",
    "readable_credit_note",
    "readable_invoice",
    "render_pdf",
    "render_pictures",
    "seller_of",
    "set_billing_profile",
    "void_credit_note",
    "void_invoice",
]
