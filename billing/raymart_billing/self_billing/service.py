"""Self-billing invoices: one for each payment to a provider, made of the ledger once the payment is final.

The marketplace pays for what providers supply and writes their invoices for them. Takes a session, never commits. Locks:
the provider's row first, so that one provider's documents are made one after the other; then the number series.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.invoices.content import content_sha256
from raymart_billing.invoices.party import Party, buyer_of
from raymart_billing.invoices.service import database_now, next_number
from raymart_billing.ledger.posting import transfer_by_key
from raymart_billing.payouts.models import ItemState, PayoutBatch, PayoutItem, PayoutPart
from raymart_billing.self_billing.lines import read_lines
from raymart_billing.self_billing.models import SelfBillingInvoice
from raymart_core.errors import Conflict, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.supply.models import Provider

log = structlog.get_logger()

SERIES = "RMS"
DUE_MAX = 200
"""Payments that one run of the periodic takes."""


async def issue_self_billing_invoice(
    session: AsyncSession, payout_item_id: UUID, *, recipient: Party
) -> SelfBillingInvoice:
    """Issue the document of a payment that is final; a repeat returns the one there is.

    The database adds the ledger's range up itself and refuses lines that say something else.
    Raises: NotFound, Conflict when the payment is not final.
    """
    item, provider = await _lock(session, payout_item_id)
    found = await invoice_of_payment(session, payout_item_id)
    if found is not None:
        return found
    sent = await transfer_by_key(session, f"payout:{item.id}:sent")
    if item.state is not ItemState.PAID or sent is None:
        raise Conflict(f"the payment is {item.state.value}; its document is issued once it is final")
    before = await _newest(session, provider.id)
    after = before.up_to_transfer_id if before else 0
    opening = before.closing_nano_usd if before else 0
    up_to = max(sent.id, after)
    lines = await read_lines(session, provider.id, after_transfer_id=after, up_to_transfer_id=up_to)
    supplier = await buyer_of(session, provider.organization_id)
    now = await database_now(session)
    made = SelfBillingInvoice(
        id=new_id(),
        created_at=now,
        organization_id=provider.organization_id,
        provider_id=provider.id,
        payout_item_id=item.id,
        number=await next_number(session, SERIES, now),
        after_transfer_id=after,
        up_to_transfer_id=up_to,
        opening_nano_usd=opening,
        earned_nano_usd=sum(line.amount for line in lines if line.is_supply),
        closing_nano_usd=opening + sum(line.amount for line in lines),
        paid_micro_usdc=item.amount_micro_usdc,
        lines=[line.stored() for line in lines],
        supplier=supplier.frozen(),
        recipient=recipient.frozen(),
        payment=await _payment(session, item),
    )
    made.content_sha256 = content_sha256(self_billing_content(made))
    session.add(made)
    await session.flush()
    log.info("self_billing.issued", number=made.number, provider_id=str(provider.id))
    return made


def self_billing_content(document: SelfBillingInvoice) -> dict[str, Any]:
    """All that the document says, as plain data: what its hash covers. Amounts are nano-USD and micro-USDC."""
    return {
        "document": "self_billing_invoice",
        "number": document.number,
        "provider": show(Prefix.PROVIDER, document.provider_id),
        "organization": show(Prefix.ORGANIZATION, document.organization_id),
        "issued_at": _time(document.created_at),
        "after_transfer": document.after_transfer_id,
        "up_to_transfer": document.up_to_transfer_id,
        "opening": document.opening_nano_usd,
        "earned": document.earned_nano_usd,
        "closing": document.closing_nano_usd,
        "paid_micro_usdc": document.paid_micro_usdc,
        "payment": document.payment,
        "supplier": document.supplier,
        "recipient": document.recipient,
        "lines": document.lines,
    }


async def invoice_of_payment(session: AsyncSession, payout_item_id: UUID) -> SelfBillingInvoice | None:
    """The document of a payment, if it was issued."""
    return await session.scalar(
        select(SelfBillingInvoice).where(SelfBillingInvoice.payout_item_id == payout_item_id)
    )


async def due_payments(session: AsyncSession) -> Sequence[UUID]:
    """Payments to providers that are final and have no document, the oldest first."""
    has_one = select(SelfBillingInvoice.id).where(SelfBillingInvoice.payout_item_id == PayoutItem.id)
    statement = (
        select(PayoutItem.id)
        .where(PayoutItem.state == ItemState.PAID, PayoutItem.provider_id.is_not(None), ~has_one.exists())
        .order_by(PayoutItem.id)
        .limit(DUE_MAX)
    )
    return (await session.scalars(statement)).all()


async def _lock(session: AsyncSession, payout_item_id: UUID) -> tuple[PayoutItem, Provider]:
    """The payment as it is now, its provider's row locked. Raises: NotFound."""
    row = (
        await session.execute(
            select(PayoutItem, Provider)
            .join(Provider, Provider.id == PayoutItem.provider_id)
            .where(PayoutItem.id == payout_item_id)
            .with_for_update(key_share=True, of=Provider)
            .execution_options(populate_existing=True)
        )
    ).one_or_none()
    if row is None:
        raise NotFound("there is no such payment to a provider")
    item, provider = row.tuple()
    return item, provider


async def _newest(session: AsyncSession, provider_id: UUID) -> SelfBillingInvoice | None:
    """Where the provider's documents end."""
    return await session.scalar(
        select(SelfBillingInvoice)
        .where(SelfBillingInvoice.provider_id == provider_id)
        .order_by(SelfBillingInvoice.up_to_transfer_id.desc(), SelfBillingInvoice.number.desc())
        .limit(1)
    )


async def _payment(session: AsyncSession, item: PayoutItem) -> dict[str, Any]:
    """What is said of the payment itself."""
    batch = await session.get_one(PayoutBatch, item.batch_id)
    part = None if item.part_id is None else await session.get_one(PayoutPart, item.part_id)
    return {
        "batch": batch.number,
        "wallet": item.wallet,
        "token_account": item.token_account,
        "mint": batch.mint,
        "signature": None if part is None else part.signature,
        "finalized_at": None if part is None or part.finalized_at is None else _time(part.finalized_at),
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
