"""Paying a deposit back to its card. The money leaves the balance first, then the processor is asked, until it answers.

    requested --(done)--> succeeded
        └------(refused)--> failed, and the money is in the balance again

So nobody can spend what is on its way back, and no crash can pay twice: each try carries the refund's own key.
"""

from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.credits import paid_part
from raymart_billing.deposits.blocks import checked_reason
from raymart_billing.deposits.events import apply_fact
from raymart_billing.deposits.funds import lock_funds
from raymart_billing.deposits.models import (
    Deposit,
    DepositRail,
    DepositRefund,
    Dispute,
    DisputeBooking,
    RefundOrigin,
    RefundState,
)
from raymart_billing.deposits.settle import BALANCE, CASH, locked, settle, state_of
from raymart_billing.deposits.stripe_client import Refused, StripeProcessor
from raymart_billing.deposits.stripe_facts import NANO_USD_PER_CENT, cents_of, nano_usd_of
from raymart_billing.ledger import TransferCode
from raymart_billing.work import outbox
from raymart_core.errors import Conflict, InvalidRequest, Overloaded, Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

SEND_TASK = "deposits.send_refund"
KEY_CHARACTERS_MAX = 128
KEY_LIFE = timedelta(hours=23)
"""Stripe may forget an idempotency key after 24 hours; later its list of refunds is asked first."""


async def request_refund(
    session: AsyncSession, *, deposit_id: UUID, amount: Money, key: str, reason: str, actor_id: UUID | None
) -> DepositRefund:
    """Take `amount` out of the balance and ask for its way back to the card; a repeat of `key` gives the first refund.

    At most what is left of the deposit, of the paid part of the balance, and of what is not held for requests.
    Locks the deposit, then the customer's accounts. Raises: InvalidRequest, Conflict, NotFound.
    """
    checked = checked_reason(reason)
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise InvalidRequest(
            f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters", param="idempotency_key"
        )
    deposit = await locked(session, deposit_id)
    query = select(DepositRefund).where(
        DepositRefund.deposit_id == deposit_id, DepositRefund.idempotency_key == f"platform:{key}"
    )
    found = await session.scalar(query)
    if found is not None:
        if found.amount_nano_usd != amount.amount:
            raise Conflict(
                f"key {key!r} stands for a refund of {Money(found.amount_nano_usd)}; use a new key for another",
                param="idempotency_key",
            )
        return found
    await _check(session, deposit, amount)
    refund = DepositRefund(
        id=new_id(),
        deposit_id=deposit.id,
        origin=RefundOrigin.PLATFORM,
        state=RefundState.REQUESTED,
        amount_nano_usd=amount.amount,
        idempotency_key=f"platform:{key}",
        reason=checked,
        actor_id=actor_id,
    )
    session.add(refund)
    await _take(session, deposit, refund)
    await outbox.enqueue(session, task=SEND_TASK, subject=str(refund.id), key=str(refund.id))
    log.info(
        "deposit.refund_requested",
        deposit_id=str(deposit.id),
        refund_id=str(refund.id),
        amount_nano_usd=amount.amount,
        actor_id=str(actor_id),
    )
    return refund


async def send_refund(sessions: Sessions, processor: StripeProcessor, refund_id: UUID) -> None:
    """Ask the processor to pay a requested refund and note its answer. Idempotent. Raises: Unavailable, Overloaded."""
    async with session_scope(sessions) as session:
        query = (
            select(DepositRefund, Deposit.payment_id, func.clock_timestamp())
            .join(Deposit, Deposit.id == DepositRefund.deposit_id)
            .where(DepositRefund.id == refund_id)
        )
        refund, payment_id, now = (await session.execute(query)).one()
    if refund.state is not RefundState.REQUESTED or refund.failed_reason is not None:
        return
    assert payment_id is not None, f"refund {refund_id} of a deposit without a payment"
    fact = None
    if now - refund.created_at > KEY_LIFE:
        fact = await processor.find_refund(refund.id, payment_id=payment_id)
    try:
        fact = fact or await processor.refund(
            refund.id, payment_id=payment_id, amount_cents=cents_of(Money(refund.amount_nano_usd))
        )
    except Refused as refusal:
        await _refused(sessions, refund, refusal)
        return
    async with session_scope(sessions) as session:
        await apply_fact(session, fact)


async def try_refund(sessions: Sessions, processor: StripeProcessor, refund_id: UUID) -> None:
    """Send a requested refund at once, as a courtesy: the outbox row of `request_refund` stands behind it."""
    try:
        await send_refund(sessions, processor, refund_id)
    except (Unavailable, Overloaded) as error:
        log.warning("deposit.refund_waits", refund_id=str(refund_id), reason=error.message)


async def refundable(session: AsyncSession, deposit: Deposit, *, available: int) -> int:
    """How much of `deposit` could be paid back now, in nano-USD, when `available` of the balance is not held."""
    if deposit.credited_at is None:
        return 0
    taken_back = select(func.coalesce(func.sum(Dispute.amount), 0)).where(
        Dispute.payment_id == deposit.payment_id,
        Dispute.booked.in_([DisputeBooking.OPENED, DisputeBooking.LOST]),
    )
    disputed = nano_usd_of(int(await session.scalar(taken_back) or 0))
    left = deposit.credited_nano_usd - deposit.refunded_nano_usd - disputed
    paid = await paid_part(session, deposit.organization_id)
    return max(0, min(left, available, paid.amount))


async def _check(session: AsyncSession, deposit: Deposit, amount: Money) -> None:
    if deposit.rail is not DepositRail.CARD or deposit.payment_id is None:
        raise Conflict("only a deposit by card that was paid can be paid back to its card")
    if amount.asset is not Asset.USD or amount.amount <= 0 or amount.amount % NANO_USD_PER_CENT:
        raise InvalidRequest(
            f"{amount} cannot be refunded; give whole cents of US dollars, above 0", param="amount"
        )
    funds = await lock_funds(session, deposit.organization_id)
    limit = await refundable(session, deposit, available=funds.available)
    if amount.amount > limit:
        raise Conflict(
            f"{amount} is more than can be paid back: {Money(limit)} of this deposit is left, in the balance, "
            "not held for requests and not granted",
            param="amount",
        )


async def _take(session: AsyncSession, deposit: Deposit, refund: DepositRefund) -> None:
    funds = await lock_funds(session, deposit.organization_id)
    key, amount = f"deposit_refund:{refund.id}", refund.amount_nano_usd
    funds.move(key, TransferCode.DEPOSIT_REFUND, BALANCE, CASH[deposit.rail], amount)
    await funds.post(session, actor_id=refund.actor_id)
    deposit.refunded_nano_usd += amount
    deposit.state = await state_of(session, deposit)
    await session.flush()


async def _refused(sessions: Sessions, refund: DepositRefund, refusal: Refused) -> None:
    async with session_scope(sessions) as session:
        await locked(session, refund.deposit_id)
        found = await session.get(DepositRefund, refund.id, populate_existing=True)
        assert found is not None, f"refund {refund.id} has vanished"
        if found.state is RefundState.REQUESTED and found.provider_id is None:
            found.failed_reason = refusal.message[:500]
            await session.flush()
            await settle(session, refund.deposit_id)
