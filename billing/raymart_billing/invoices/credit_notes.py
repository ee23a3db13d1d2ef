"""Credit notes: corrections of a final invoice in the customer's favour. Takes a session, never commits.

Locks: the credit note, then its invoice (so that notes of one invoice are issued one after the other), then the number
series, then the accounts of the refund.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.invoices.content import content_sha256, credit_note_content
from raymart_billing.invoices.models import CreditNote, CreditNoteLine, CreditNoteState, Invoice, InvoiceState
from raymart_billing.invoices.service import check_reason, database_now, lock_invoice, next_number
from raymart_billing.ledger.refusals import AMOUNT_MAX
from raymart_billing.refunds.refusals import in_words
from raymart_billing.refunds.service import refund_credit_note
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money

log = structlog.get_logger()

CREDIT_NOTE_SERIES = "RMC"
LINES_MAX = 100
DESCRIPTION_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One line of a credit note."""

    description: str
    amount: Money
    """More than 0: what the customer gets."""


async def create_credit_note(
    session: AsyncSession,
    *,
    invoice_id: UUID,
    corrections: Sequence[Correction],
    reason: str,
    actor_id: UUID | None,
) -> CreditNote:
    """Draw up a draft on a final invoice; nothing is paid yet. Raises: InvalidRequest, NotFound, Conflict."""
    reason = check_reason(reason)
    total = _checked_total(corrections)
    invoice = await session.get(Invoice, invoice_id)
    if invoice is None:
        raise NotFound("there is no such invoice; `raymart invoice list` shows them", param="invoice_id")
    if invoice.state is not InvoiceState.FINAL:
        raise Conflict(
            f"the invoice is {invoice.state.value}; a credit note corrects a final one", param="invoice_id"
        )
    note = CreditNote(
        id=new_id(),
        organization_id=invoice.organization_id,
        invoice_id=invoice_id,
        state=CreditNoteState.DRAFT,
        reason=reason,
        amount_nano_usd=total,
        created_by=actor_id,
    )
    session.add(note)
    await session.flush()
    session.add_all(
        CreditNoteLine(
            id=new_id(),
            credit_note_id=note.id,
            position=position,
            description=" ".join(correction.description.split()),
            amount_nano_usd=correction.amount.amount,
        )
        for position, correction in enumerate(corrections)
    )
    await session.flush()
    return note


async def issue_credit_note(session: AsyncSession, note_id: UUID, *, actor_id: UUID | None) -> CreditNote:
    """Number a draft and pay it into the balance, as a refund that the platform bears; a repeat changes nothing.

    Raises: NotFound, Conflict (it is void; it exceeds what is left of the invoice).
    """
    note = await _lock_note(session, note_id)
    if note.state is CreditNoteState.ISSUED:
        return note
    if note.state is CreditNoteState.VOID:
        raise Conflict("the credit note is void; make another one")
    invoice = await lock_invoice(session, note.invoice_id)
    lines = await credit_note_lines(session, note_id)
    now = await database_now(session)
    async with in_words():
        note.number = await next_number(session, CREDIT_NOTE_SERIES, now)
        note.issued_at, note.issued_by = now, actor_id
        note.content_sha256 = content_sha256(credit_note_content(note, lines, invoice=invoice))
        note.state = CreditNoteState.ISSUED
        await session.flush()
        await refund_credit_note(
            session,
            credit_note_id=note.id,
            organization_id=note.organization_id,
            amount=Money(note.amount_nano_usd),
            reason=note.reason,
            actor_id=actor_id,
        )
    log.info(
        "credit_note.issued",
        credit_note=note.number,
        invoice=invoice.number,
        amount_nano_usd=note.amount_nano_usd,
        actor_id=str(actor_id),
    )
    return note


async def void_credit_note(session: AsyncSession, note_id: UUID) -> CreditNote:
    """Drop a draft. Raises: NotFound, Conflict when it was issued: that money is the customer's."""
    note = await _lock_note(session, note_id)
    if note.state is CreditNoteState.ISSUED:
        raise Conflict(f"{note.number} was issued and paid; correct it with an adjustment")
    note.state = CreditNoteState.VOID
    await session.flush()
    return note


async def creditable(session: AsyncSession, invoice_id: UUID) -> Money:
    """What is left of a final invoice to be credited; zero for any other."""
    left = await session.scalar(select(func.invoice_creditable(invoice_id)))
    return Money(int(left or 0))


async def credit_note_lines(session: AsyncSession, note_id: UUID) -> Sequence[CreditNoteLine]:
    """All lines in their order."""
    statement = (
        select(CreditNoteLine)
        .where(CreditNoteLine.credit_note_id == note_id)
        .order_by(CreditNoteLine.position)
    )
    return (await session.scalars(statement)).all()


async def credit_notes_of(session: AsyncSession, invoice_id: UUID) -> Sequence[CreditNote]:
    """The issued notes on an invoice, oldest first."""
    statement = (
        select(CreditNote)
        .where(CreditNote.invoice_id == invoice_id, CreditNote.state == CreditNoteState.ISSUED)
        .order_by(CreditNote.number)
    )
    return (await session.scalars(statement)).all()


async def _lock_note(session: AsyncSession, note_id: UUID) -> CreditNote:
    note = await session.get(CreditNote, note_id, with_for_update={"key_share": True}, populate_existing=True)
    if note is None:
        raise NotFound("there is no such credit note", param="credit_note_id")
    return note


def _checked_total(corrections: Sequence[Correction]) -> int:
    """The sum of the lines. Raises: InvalidRequest."""
    if not 1 <= len(corrections) <= LINES_MAX:
        raise InvalidRequest(f"{len(corrections)} lines; give 1 to {LINES_MAX}", param="lines")
    for position, correction in enumerate(corrections):
        amount, field = correction.amount, f"lines[{position}]"
        if amount.asset is not Asset.USD or not 0 < amount.amount <= AMOUNT_MAX:
            raise InvalidRequest(
                f"{amount} cannot be credited; give more than 0 and at most {Money(AMOUNT_MAX)}",
                param=f"{field}.amount",
            )
        if not 1 <= len(correction.description.strip()) <= DESCRIPTION_CHARACTERS_MAX:
            raise InvalidRequest(
                f"say in 1 to {DESCRIPTION_CHARACTERS_MAX} characters what is corrected",
                param=f"{field}.description",
            )
    total = sum(correction.amount.amount for correction in corrections)
    if total > AMOUNT_MAX:
        raise InvalidRequest(f"the lines sum to {total} nano-USD, more than a ledger can hold", param="lines")
    return total
