"""Documents as they are handed out: what is stored, read in one transaction, and then set without it."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.invoices.credit_notes import credit_note_lines, credit_notes_of
from raymart_billing.invoices.csv_export import invoice_csv
from raymart_billing.invoices.models import CreditNote, Invoice, InvoiceState
from raymart_billing.invoices.party import Party, buyer_of
from raymart_billing.invoices.service import invoice_lines
from raymart_billing.invoices.sheet import Sheet, credit_note_sheet, invoice_sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """A document before it is set."""

    name: str
    """For the file, without its ending."""
    organization_id: UUID
    sheet: Sheet
    csv: bytes | None
    """The lines; only of invoices."""


async def readable_invoice(session: AsyncSession, invoice_id: UUID, *, seller: Party) -> Readable | None:
    """The invoice with its lines and issued credit notes; a draft with the parties it would have today."""
    invoice = await session.get(Invoice, invoice_id)
    if invoice is None:
        return None
    lines = await invoice_lines(session, invoice_id)
    is_draft = invoice.state is InvoiceState.DRAFT
    sheet = invoice_sheet(
        invoice,
        lines,
        await credit_notes_of(session, invoice_id),
        seller=seller if is_draft else None,
        buyer=await buyer_of(session, invoice.organization_id) if is_draft else None,
    )
    return Readable(
        name=invoice.number or f"draft-{invoice.period_start:%Y-%m}",
        organization_id=invoice.organization_id,
        sheet=sheet,
        csv=invoice_csv(invoice, lines),
    )


async def readable_credit_note(session: AsyncSession, note_id: UUID) -> Readable | None:
    """The credit note with its lines."""
    note = await session.get(CreditNote, note_id)
    if note is None:
        return None
    invoice = await session.get_one(Invoice, note.invoice_id)
    sheet = credit_note_sheet(note, await credit_note_lines(session, note_id), invoice)
    return Readable(
        name=note.number or "credit-note-draft", organization_id=note.organization_id, sheet=sheet, csv=None
    )
