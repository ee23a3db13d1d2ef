"""What the processor tells, merged into what is known: larger amounts and later stages win, so order does not matter.

An object that is not what it should be is set aside for a person and moves no money: another amount or currency than was
asked, a payment that belongs to two deposits, a bank that changes its mind.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.models import (
    CardPayment,
    Deposit,
    DepositRefund,
    DepositState,
    Dispute,
    DisputeStage,
    EventState,
    RefundOrigin,
    RefundState,
)
from raymart_billing.deposits.settle import locked
from raymart_billing.deposits.stripe_facts import (
    CURRENCY,
    STAGES,
    STATUS_ORDER,
    ChargeFact,
    CheckoutFact,
    DisputeFact,
    Fact,
    RefundFact,
    cents_of,
    nano_usd_of,
)
from raymart_core.money import Money

DECIDED = frozenset({DisputeStage.WON, DisputeStage.LOST})
REFUND_ENDED_BADLY = frozenset({"failed", "canceled"})


_LOCK_PAYMENT = text("select pg_advisory_xact_lock(hashtextextended('card_payment:' || :payment_id, 0))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What became of a fact, and the deposit that is to be settled because of it."""

    state: EventState
    deposit_id: UUID | None = None
    detail: str | None = None


class TooEarly(Exception):
    """The fact is of a deposit whose creation has not been finished; it makes sense a moment later."""


async def learn(session: AsyncSession, fact: Fact) -> Learned:
    """Merge `fact` into what is known. Idempotent. Raises: TooEarly.

    Locks the payment by an advisory lock, then the deposit: a dispute and the payment it is of may arrive at the same
    moment, and the second must see what the first has written.
    """
    if fact.payment_id is not None:
        await session.execute(_LOCK_PAYMENT, {"payment_id": fact.payment_id})
    if isinstance(fact, CheckoutFact):
        return await _checkout(session, fact)
    if isinstance(fact, ChargeFact):
        return await _charge(session, fact)
    if isinstance(fact, RefundFact):
        return await _refund(session, fact)
    return await _dispute(session, fact)


async def _checkout(session: AsyncSession, fact: CheckoutFact) -> Learned:
    deposit_id = await session.scalar(select(Deposit.id).where(Deposit.session_id == fact.session_id))
    if deposit_id is None:
        return await _unknown_checkout(session, fact)
    deposit = await locked(session, deposit_id)
    if fact.outcome == "paid":
        problem = await _paid(session, deposit, fact)
        await session.flush()
        state = EventState.REVIEW if problem else EventState.APPLIED
        return Learned(state=state, deposit_id=deposit.id, detail=problem)
    if fact.outcome == "failed":
        deposit.failed_reason = deposit.failed_reason or "the bank refused the payment"
    elif fact.outcome == "expired" and deposit.expired_at is None:
        deposit.expired_at = await session.scalar(select(func.clock_timestamp()))
    await session.flush()
    return Learned(state=EventState.APPLIED, deposit_id=deposit.id)


async def _unknown_checkout(session: AsyncSession, fact: CheckoutFact) -> Learned:
    """Metadata is a hint: it can only say that waiting makes sense, never whose money this is."""
    try:
        hinted = UUID(hex=fact.deposit_id or "")
    except ValueError:
        hinted = None
    if hinted is not None:
        state = await session.scalar(
            select(Deposit.state).where(Deposit.id == hinted, Deposit.session_id.is_(None))
        )
        if state is DepositState.CREATED:
            raise TooEarly(f"deposit {hinted} does not know its checkout session yet")
    if fact.outcome == "paid" and hinted is not None:
        return Learned(
            state=EventState.REVIEW,
            detail=f"{fact.amount} {fact.currency} was paid in a checkout session that is no deposit's",
        )
    return Learned(state=EventState.IGNORED, detail="no deposit has this checkout session")


async def _paid(session: AsyncSession, deposit: Deposit, fact: CheckoutFact) -> str | None:
    """Note the payment; what is wrong with it, in words, when something is: then it is held, not credited."""
    if deposit.paid_at is not None:
        same = (fact.amount, fact.currency, fact.payment_id or deposit.payment_id) == (
            deposit.received_amount,
            deposit.received_currency,
            deposit.payment_id,
        )
        return None if same else f"deposit {deposit.id} was paid before, as another payment"
    problem = await _mismatch(session, deposit, fact)
    now = await session.scalar(select(func.clock_timestamp()))
    deposit.received_amount, deposit.received_currency = fact.amount, fact.currency
    deposit.held_reason, deposit.paid_at = problem, now
    if fact.payment_id is not None and not await _payment_taken(session, deposit, fact.payment_id):
        deposit.payment_id = fact.payment_id
    return problem


async def _mismatch(session: AsyncSession, deposit: Deposit, fact: CheckoutFact) -> str | None:
    asked = cents_of(Money(deposit.amount_nano_usd))
    if fact.currency != CURRENCY or fact.amount != asked:
        return f"{fact.amount} {fact.currency} was paid where {asked} {CURRENCY} was asked"
    if fact.payment_id is None:
        return "paid, but by no payment that could be refunded or disputed"
    if await _payment_taken(session, deposit, fact.payment_id):
        return f"payment {fact.payment_id} belongs to another deposit"
    return None


async def _payment_taken(session: AsyncSession, deposit: Deposit, payment_id: str) -> bool:
    query = select(Deposit.id).where(Deposit.payment_id == payment_id, Deposit.id != deposit.id)
    return await session.scalar(query) is not None


async def _charge(session: AsyncSession, fact: ChargeFact) -> Learned:
    known = insert(CardPayment).values(
        id=fact.payment_id,
        charge_id=fact.charge_id,
        currency=fact.currency,
        refunded_amount=fact.refunded_amount,
        fee_amount=fact.fee_amount,
    )
    await session.execute(
        known.on_conflict_do_update(
            index_elements=[CardPayment.id],
            set_={
                "charge_id": func.coalesce(CardPayment.charge_id, known.excluded.charge_id),
                "refunded_amount": func.greatest(CardPayment.refunded_amount, known.excluded.refunded_amount),
                "fee_amount": func.coalesce(CardPayment.fee_amount, known.excluded.fee_amount),
                "updated_at": func.clock_timestamp(),
            },
        )
    )
    deposit_id = await _deposit_of(session, fact.payment_id)
    if fact.currency != CURRENCY and deposit_id is not None:
        detail = f"charge {fact.charge_id} is in {fact.currency}"
        return Learned(state=EventState.REVIEW, detail=detail)
    return Learned(state=EventState.APPLIED, deposit_id=deposit_id)


async def _refund(session: AsyncSession, fact: RefundFact) -> Learned:
    deposit_id = await _deposit_of(session, fact.payment_id)
    if deposit_id is None:
        return Learned(state=EventState.IGNORED, detail="no deposit has this payment")
    deposit = await locked(session, deposit_id)
    refund = await _own_refund(session, deposit, fact)
    if refund is None:
        # Somebody else's: `charge.refunded` carries its money. That it failed is for a person.
        failed = fact.status in REFUND_ENDED_BADLY
        detail = f"refund {fact.refund_id} was made at the processor and ended {fact.status}"
        return Learned(
            state=EventState.REVIEW if failed else EventState.APPLIED, detail=detail if failed else None
        )
    if (refund.amount_nano_usd, CURRENCY) != (nano_usd_of(fact.amount), fact.currency):
        detail = f"refund {fact.refund_id} is {fact.amount} {fact.currency}, not what was asked"
        return Learned(state=EventState.REVIEW, detail=detail)
    refund.provider_id = fact.refund_id
    if fact.status in REFUND_ENDED_BADLY:
        refund.failed_reason = refund.failed_reason or f"the processor says: {fact.status}"
    elif fact.status == "succeeded" and refund.state is RefundState.REQUESTED:
        refund.state = RefundState.SUCCEEDED
    await session.flush()
    return Learned(state=EventState.APPLIED, deposit_id=deposit.id)


async def _own_refund(session: AsyncSession, deposit: Deposit, fact: RefundFact) -> DepositRefund | None:
    """By the processor's id, else by the reference that we gave it; either way it must be this deposit's."""
    ours = select(DepositRefund).where(
        DepositRefund.deposit_id == deposit.id, DepositRefund.origin == RefundOrigin.PLATFORM
    )
    by_id = await session.scalar(ours.where(DepositRefund.provider_id == fact.refund_id))
    if by_id is not None or fact.reference is None:
        return by_id
    try:
        reference = UUID(hex=fact.reference)
    except ValueError:
        return None
    return await session.scalar(
        ours.where(DepositRefund.id == reference, DepositRefund.provider_id.is_(None))
    )


async def _dispute(session: AsyncSession, fact: DisputeFact) -> Learned:
    stage = STAGES[fact.status]
    made = insert(Dispute).values(
        provider_id=fact.dispute_id,
        payment_id=fact.payment_id,
        charge_id=fact.charge_id,
        amount=fact.amount,
        currency=fact.currency,
        status=fact.status,
        stage=stage,
        reason=fact.reason,
        evidence_due_at=_moment(fact.evidence_due_at),
        fee_amount=fact.fee_amount,
    )
    await session.execute(made.on_conflict_do_nothing(index_elements=[Dispute.provider_id]))
    deposit_id = await _deposit_of(session, fact.payment_id)
    if deposit_id is not None:
        await locked(session, deposit_id)
    query = select(Dispute).where(Dispute.provider_id == fact.dispute_id).with_for_update(key_share=True)
    dispute = (await session.scalars(query.execution_options(populate_existing=True))).one()
    if (dispute.amount, dispute.currency, dispute.payment_id) != (
        fact.amount,
        fact.currency,
        fact.payment_id,
    ):
        detail = f"dispute {fact.dispute_id} changed to {fact.amount} {fact.currency} of {fact.payment_id}"
        return Learned(state=EventState.REVIEW, deposit_id=deposit_id, detail=detail)
    dispute.fee_amount = max(dispute.fee_amount, fact.fee_amount)
    dispute.evidence_due_at = dispute.evidence_due_at or _moment(fact.evidence_due_at)
    if {dispute.stage, stage} == DECIDED:
        detail = f"dispute {fact.dispute_id} was {dispute.status} and is now said to be {fact.status}"
        return Learned(state=EventState.REVIEW, deposit_id=deposit_id, detail=detail)
    if STATUS_ORDER.index(fact.status) > STATUS_ORDER.index(dispute.status):
        dispute.status, dispute.stage = fact.status, stage
    await session.flush()
    return Learned(state=EventState.APPLIED, deposit_id=deposit_id)


async def _deposit_of(session: AsyncSession, payment_id: str) -> UUID | None:
    return await session.scalar(select(Deposit.id).where(Deposit.payment_id == payment_id))


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
