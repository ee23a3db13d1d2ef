"""Invoices from draft to final to void. Takes a session, never commits.

Locks: the customer's organization row first, so that one customer's documents are made one after the other; then the
document, then the number series. No account of the ledger is locked: what is read is one snapshot of it.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.invoices.booking import Booking, read_booking
from raymart_billing.invoices.content import content_sha256, invoice_content
from raymart_billing.invoices.lines import make_lines
from raymart_billing.invoices.models import Invoice, InvoiceLine, InvoiceState
from raymart_billing.invoices.party import Party, buyer_of
from raymart_billing.refunds.refusals import in_words
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.accounts.models import Organization

log = structlog.get_logger()

INVOICE_SERIES = "RM"
REASON_CHARACTERS_MAX = 500
USAGE_MONTHS_BACK = 2
"""How many months before its own an invoice looks for usage that was posted late; further back only when it must."""
_FIRST_MONTH = date(2020, 1, 1)
"""Before the first request there ever was."""
_QUIET_SEARCH_S = (0, *(2**power for power in range(17)))
"""Moments after the month's end at which its books may be cut: up to 18 h, for clocks that were set."""


async def draft_invoice(
    session: AsyncSession, *, organization_id: UUID, period_start: date
) -> Invoice | None:
    """Draw up the invoice of a customer and month that is over; None when nothing was booked since the last one.

    A repeat returns the living invoice of that month. The books are cut at the month's end, or at the first moment
    after it when no usage was on its way between record and ledger.
    Raises: InvalidRequest, NotFound, Conflict (an earlier month is open; usage and ledger differ).
    """
    now = await _lock_customer(session, organization_id)
    period_end = next_month(period_start)
    if period_start.day != 1 or _midnight(period_end) > now:
        raise InvalidRequest(
            f"{period_start} is not the first day of a month that is over; the last one is {month_before(now)}",
            param="period",
        )
    living = await _living_invoices(session, organization_id)
    same = next((invoice for invoice in living if invoice.period_start == period_start), None)
    if same is not None:
        return same
    if living and (living[0].state is InvoiceState.DRAFT or living[0].period_start > period_start):
        raise Conflict(
            f"the invoice of {living[0].period_start:%B %Y} is {living[0].state.value}; "
            "invoices of one customer are made month by month",
            param="period",
        )
    previous = living[0] if living else None
    booking, booked_until = await _cut_books(session, organization_id, previous, period_start, now)
    lines = make_lines(booking, period_start=period_start)
    if not lines:
        return None
    return await _save_draft(
        session,
        Invoice(
            id=new_id(),
            organization_id=organization_id,
            state=InvoiceState.DRAFT,
            asset=Asset.USD,
            period_start=period_start,
            period_end=period_end,
            after_transfer_id=previous.up_to_transfer_id if previous else 0,
            up_to_transfer_id=booking.up_to_transfer_id,
            booked_until=booked_until,
            opening_nano_usd=booking.opening,
            closing_nano_usd=booking.closing,
            charged_nano_usd=booking.charged,
        ),
        lines,
    )


async def discard_draft(session: AsyncSession, invoice_id: UUID) -> None:
    """Delete a draft; its month can be drawn up again. Raises: NotFound, Conflict when it is no draft."""
    invoice = await lock_invoice(session, invoice_id)
    if invoice.state is not InvoiceState.DRAFT:
        raise Conflict(f"invoice {invoice.number} is {invoice.state.value}; only a draft can be discarded")
    await session.execute(delete(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id))
    await session.delete(invoice)
    await session.flush()


async def finalize_invoice(
    session: AsyncSession, invoice_id: UUID, *, seller: Party, actor_id: UUID | None
) -> Invoice:
    """Give a draft its number, freeze buyer and seller into it, and make it final; a repeat changes nothing.

    The database adds the ledger up once more and refuses lines that say something else. Locks the number series until
    the transaction ends: numbers have no gaps. Raises: NotFound, Conflict.
    """
    invoice = await lock_invoice(session, invoice_id)
    if invoice.state is InvoiceState.FINAL:
        return invoice
    if invoice.state is InvoiceState.VOID:
        raise Conflict(f"invoice {invoice.number} is void; draw its month up again")
    lines = await invoice_lines(session, invoice_id)
    buyer = await buyer_of(session, invoice.organization_id)
    now = await database_now(session)
    async with in_words():
        invoice.number = await next_number(session, INVOICE_SERIES, now)
        invoice.issued_at, invoice.issued_by = now, actor_id
        invoice.seller, invoice.buyer = seller.frozen(), buyer.frozen()
        invoice.content_sha256 = content_sha256(invoice_content(invoice, lines))
        invoice.state = InvoiceState.FINAL
        await session.flush()
    log.info(
        "invoice.finalized",
        invoice=invoice.number,
        organization_id=str(invoice.organization_id),
        charged_nano_usd=invoice.charged_nano_usd,
        actor_id=str(actor_id),
    )
    return invoice


async def void_invoice(
    session: AsyncSession, invoice_id: UUID, *, reason: str, actor_id: UUID | None
) -> Invoice:
    """Withdraw the newest final invoice of a customer; its number stays taken and its month can be drawn up again.

    A repeat changes nothing. Raises: InvalidRequest, NotFound, Conflict (it is a draft, has a successor or a credit
    note).
    """
    reason = check_reason(reason)
    invoice = await lock_invoice(session, invoice_id)
    if invoice.state is InvoiceState.VOID:
        return invoice
    if invoice.state is InvoiceState.DRAFT:
        raise Conflict("a draft has no number yet; discard it instead")
    now = await database_now(session)
    async with in_words():
        invoice.voided_at, invoice.voided_by = now, actor_id
        invoice.void_reason = reason
        invoice.state = InvoiceState.VOID
        await session.flush()
    log.info("invoice.voided", invoice=invoice.number, actor_id=str(actor_id))
    return invoice


async def invoice_lines(session: AsyncSession, invoice_id: UUID) -> Sequence[InvoiceLine]:
    """All lines in their order."""
    statement = select(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id).order_by(InvoiceLine.position)
    return (await session.scalars(statement)).all()


async def lock_invoice(session: AsyncSession, invoice_id: UUID) -> Invoice:
    """The invoice as it is now, its customer and itself locked until the transaction ends. Raises: NotFound."""
    invoice = await session.get(Invoice, invoice_id)
    if invoice is None:
        raise NotFound("there is no such invoice; `raymart invoice list` shows them", param="invoice_id")
    await _lock_customer(session, invoice.organization_id)
    locked = await session.get(
        Invoice, invoice_id, with_for_update={"key_share": True}, populate_existing=True
    )
    if locked is None:
        raise NotFound("the draft was discarded a moment ago; draw it up again", param="invoice_id")
    return locked


async def next_number(session: AsyncSession, series: str, now: datetime) -> str:
    """The next number of this year's `series`. Locks the series until the transaction ends."""
    number: str = (
        await session.execute(select(func.document_number_next(f"{series}-{now.year}")))
    ).scalar_one()
    return number


async def database_now(session: AsyncSession) -> datetime:
    """The moment by the database's clock, UTC."""
    now: datetime = (await session.execute(text("select clock_timestamp()"))).scalar_one()
    return now.astimezone(UTC)


def check_reason(text_: str) -> str:
    """`text_` without surplus blanks. Raises: InvalidRequest when there is none."""
    reason = " ".join(text_.split())
    if not 1 <= len(reason) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(reason)} characters; say why in 1 to {REASON_CHARACTERS_MAX}", param="reason"
        )
    return reason


def next_month(day: date) -> date:
    """First day of the month after that of `day`."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def month_before(now: datetime) -> date:
    """First day of the last month that is over at `now`, UTC."""
    return (now.astimezone(UTC).date().replace(day=1) - timedelta(days=1)).replace(day=1)


async def _lock_customer(session: AsyncSession, organization_id: UUID) -> datetime:
    """Lock the organization's row; returns the database's time. Raises: NotFound."""
    found = await session.scalar(
        select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True)
    )
    if found is None:
        raise NotFound("there is no such organization", param="organization_id")
    return await database_now(session)


async def _living_invoices(session: AsyncSession, organization_id: UUID) -> Sequence[Invoice]:
    """Newest month first."""
    statement = (
        select(Invoice)
        .where(Invoice.organization_id == organization_id, Invoice.state != InvoiceState.VOID)
        .order_by(Invoice.period_start.desc())
    )
    return (await session.scalars(statement)).all()


async def _cut_books(
    session: AsyncSession, organization_id: UUID, previous: Invoice | None, period_start: date, now: datetime
) -> tuple[Booking, datetime]:
    """What was booked up to the first quiet moment at or after the month's end.

    A batch of usage is marked as posted a moment before its transfers are written. At a moment between the two,
    times alone would put the one in this month and the other in the next; the sums then differ, and a later moment is
    tried, at last everything that is there. Raises: Conflict when the sums differ even so.
    """
    month_end = _midnight(next_month(period_start))
    moments = [
        moment for seconds in _QUIET_SEARCH_S if (moment := month_end + timedelta(seconds=seconds)) < now
    ]
    usage_to = next_month(now.date())
    recent = max(_FIRST_MONTH, _months_back(period_start, USAGE_MONTHS_BACK))
    # Only what is wholly there can be judged: usage from further back than usual is looked for at the end.
    tries = [(moment, recent) for moment in moments] + [(None, recent), (None, _FIRST_MONTH)]
    booking = None
    for until, usage_from in tries:
        booking = await read_booking(
            session,
            organization_id,
            after_transfer_id=previous.up_to_transfer_id if previous else 0,
            until=until,
            usage_from=usage_from,
            usage_to=usage_to,
        )
        if booking.difference == 0 and all(used.quantity > 0 <= used.amount for used in booking.usage):
            return booking, until or now
    assert booking is not None
    log.error(
        "invoice.not_tied_out", organization_id=str(organization_id), difference_nano_usd=booking.difference
    )
    raise Conflict(
        f"recorded usage and the ledger's charges differ by {Money(booking.difference)} (must be 0); no invoice is made. "
        "Compare `raymart usage` with `raymart ledger` for this customer"
    )


async def _save_draft(session: AsyncSession, invoice: Invoice, lines: Sequence[InvoiceLine]) -> Invoice:
    async with in_words():
        session.add(invoice)
        await session.flush()
        for line in lines:
            line.invoice_id = invoice.id
        session.add_all(lines)
        await session.flush()
    log.info(
        "invoice.drafted",
        organization_id=str(invoice.organization_id),
        period_start=str(invoice.period_start),
        lines=len(lines),
    )
    await session.refresh(invoice)
    return invoice


def _months_back(day: date, months: int) -> date:
    for _ in range(months):
        day = (day.replace(day=1) - timedelta(days=1)).replace(day=1)
    return day


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
