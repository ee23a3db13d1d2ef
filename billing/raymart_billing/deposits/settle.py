"""From what is known of a deposit to the books: the one path by which deposits, refunds and disputes move money.

What is known only grows (`learn`): paid, paid back in all, each dispute's latest stage. `settle` compares it with what
the books have followed so far and posts the difference as one batch. So the same facts end in the same books, whatever
the order in which they came, how often, and wherever a process died in between.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits import blocks
from raymart_billing.deposits.funds import Funds, lock_funds
from raymart_billing.deposits.models import (
    CardPayment,
    Deposit,
    DepositRail,
    DepositRefund,
    DepositState,
    Dispute,
    DisputeBooking,
    DisputeStage,
    RefundOrigin,
    RefundState,
)
from raymart_billing.deposits.stripe_facts import CURRENCY, nano_usd_of
from raymart_billing.ledger import AccountKind, TransferCode, reverse, transfer_by_key
from raymart_core.errors import NotFound
from raymart_core.ids import new_id

log = structlog.get_logger()

BALANCE, RECEIVABLE = AccountKind.CUSTOMER_BALANCE, AccountKind.CUSTOMER_RECEIVABLE
DISPUTE, COST = AccountKind.CUSTOMER_DISPUTE, AccountKind.PAYMENT_COST
CASH = {DepositRail.CARD: AccountKind.EXTERNAL_CARD, DepositRail.USDC: AccountKind.EXTERNAL_USDC}
DEPOSITED = {DepositRail.CARD: TransferCode.DEPOSIT_CARD, DepositRail.USDC: TransferCode.DEPOSIT_USDC}
FOLLOWS = {DisputeStage.WON: DisputeBooking.WON, DisputeStage.LOST: DisputeBooking.LOST}


async def settle(session: AsyncSession, deposit_id: UUID) -> Deposit:
    """Bring the books to what is known of the deposit; a repeat changes nothing.

    Locks the deposit, then the customer's accounts. Raises: NotFound.
    """
    deposit = await locked(session, deposit_id)
    if deposit.paid_at is not None and deposit.held_reason is None:
        await _follow(session, deposit)
    deposit.state = await state_of(session, deposit)
    await session.flush()
    return deposit


async def locked(session: AsyncSession, deposit_id: UUID) -> Deposit:
    """The deposit as it is now, locked until the transaction ends. Raises: NotFound."""
    query = select(Deposit).where(Deposit.id == deposit_id).with_for_update(key_share=True)
    found = (await session.scalars(query.execution_options(populate_existing=True))).one_or_none()
    if found is None:
        raise NotFound(f"there is no deposit {deposit_id}")
    return found


async def state_of(session: AsyncSession, deposit: Deposit) -> DepositState:
    """Where the deposit stands, by what is known of it."""
    if deposit.credited_at is None:
        if deposit.paid_at is not None:
            return DepositState.SUCCEEDED
        if deposit.failed_reason is not None:
            return DepositState.FAILED
        if deposit.expired_at is not None:
            return DepositState.EXPIRED
        return DepositState.CREATED if deposit.session_id is None else DepositState.PENDING
    if deposit.refunded_nano_usd == deposit.credited_nano_usd:
        return DepositState.REFUNDED
    taken_back = select(func.count()).where(
        Dispute.payment_id == deposit.payment_id,
        Dispute.booked.in_([DisputeBooking.OPENED, DisputeBooking.LOST]),
    )
    return DepositState.DISPUTED if await session.scalar(taken_back) else DepositState.CREDITED


async def settle_debt(session: AsyncSession, organization_id: UUID) -> int:
    """Pay what the customer owes with what it has by now, and let it spend again when nothing is left to pay.

    For money that came back from running requests after a dispute had found too little. Returns nano-USD paid.
    """
    funds = await lock_funds(session, organization_id)
    before = funds.owed
    funds.settle_debt(_settlement_key())
    await funds.post(session)
    await lift_if_clear(session, funds)
    return before - funds.owed


async def lift_if_clear(session: AsyncSession, funds: Funds) -> None:
    """End a rule's block of a customer that owes nothing and whose deposits no bank has taken."""
    if funds.owed == 0 and not await _has_open_dispute(session, funds.organization_id):
        await blocks.lift_by_rule(
            session, funds.organization_id, reason="nothing is owed and no dispute is open"
        )


async def _follow(session: AsyncSession, deposit: Deposit) -> None:
    payment = (
        await session.get(CardPayment, deposit.payment_id, populate_existing=True)
        if deposit.payment_id
        else None
    )
    disputes = (
        await session.scalars(
            select(Dispute)
            .where(Dispute.payment_id == deposit.payment_id)
            .order_by(Dispute.id)
            .execution_options(populate_existing=True)
        )
    ).all()
    funds = await lock_funds(session, deposit.organization_id)
    owed_before = funds.owed
    if deposit.credited_at is None:
        await _credit(session, deposit, funds)
    if payment is not None:
        _book_fee(deposit, payment, funds)
    await _follow_refunds(session, deposit, payment, funds)
    alarm = _follow_disputes(deposit, disputes, funds)
    funds.settle_debt(_settlement_key())
    planned = len(funds.planned)
    new = await funds.post(session)
    assert new == planned, f"deposit {deposit.id}: {planned - new} movements were posted before"
    await session.flush()
    if alarm or funds.owed > owed_before:
        await blocks.block_by_rule(session, deposit.organization_id, reason=alarm or _owes(funds))
    await lift_if_clear(session, funds)


async def _credit(session: AsyncSession, deposit: Deposit, funds: Funds) -> None:
    """Money in. The amount is what was received; `learn` has held back whatever differs from what was asked."""
    amount = deposit.amount_nano_usd
    if deposit.rail is DepositRail.CARD:
        assert deposit.received_amount is not None, "a card payment that is paid has an amount"
        assert deposit.received_currency == CURRENCY, "another currency is held for review"
        amount = nano_usd_of(deposit.received_amount)
    funds.move(f"deposit:{deposit.id}", DEPOSITED[deposit.rail], CASH[deposit.rail], BALANCE, amount)
    now = await session.scalar(select(func.clock_timestamp()))
    deposit.credited_nano_usd, deposit.credited_at = amount, now
    deposit.fee_due = deposit.rail is DepositRail.CARD
    log.info(
        "deposit.credited",
        deposit_id=str(deposit.id),
        organization_id=str(deposit.organization_id),
        amount_nano_usd=amount,
    )


def _book_fee(deposit: Deposit, payment: CardPayment, funds: Funds) -> None:
    if payment.fee_amount is None or deposit.fee_nano_usd is not None:
        return
    deposit.fee_nano_usd = nano_usd_of(payment.fee_amount)
    deposit.fee_due = False
    funds.move(
        f"deposit:{deposit.id}:fee",
        TransferCode.PAYMENT_FEE,
        COST,
        CASH[deposit.rail],
        deposit.fee_nano_usd,
    )


async def _follow_refunds(
    session: AsyncSession, deposit: Deposit, payment: CardPayment | None, funds: Funds
) -> None:
    """Give back what was not paid back after all, book what the processor has paid back beyond our own refunds, and count all of them."""
    query = select(DepositRefund).where(DepositRefund.deposit_id == deposit.id)
    refunds = (await session.scalars(query.execution_options(populate_existing=True))).all()
    for refund in refunds:
        if refund.failed_reason is not None and refund.state is not RefundState.FAILED:
            await _return_refund(session, refund, funds)
    standing = sum(each.amount_nano_usd for each in refunds if each.state is not RefundState.FAILED)
    # The processor counts a refund when it makes it, also one that fails later and whose money came back.
    seen = standing + sum(
        each.amount_nano_usd for each in refunds if each.state is RefundState.FAILED and each.provider_id
    )
    refunded = nano_usd_of(payment.refunded_amount) if payment is not None else 0
    missing = min(refunded - seen, deposit.credited_nano_usd - standing)
    if missing > 0:
        session.add(_book_processors_refund(deposit, missing, funds))
    deposit.refunded_nano_usd = standing + max(missing, 0)


async def _return_refund(session: AsyncSession, refund: DepositRefund, funds: Funds) -> None:
    """The money did not leave the rail: its transfer is undone. Its accounts are locked already."""
    transfer = await transfer_by_key(session, f"deposit_refund:{refund.id}")
    assert transfer is not None, f"refund {refund.id} took no money"
    await reverse(
        session, [transfer.id], reason=f"refund failed: {refund.failed_reason}"[:500], actor_id=None
    )
    funds.available += refund.amount_nano_usd
    refund.state = RefundState.FAILED
    log.warning("deposit.refund_failed", deposit_id=str(refund.deposit_id), refund_id=str(refund.id))


def _book_processors_refund(deposit: Deposit, amount: int, funds: Funds) -> DepositRefund:
    """The money has gone already: what the balance does not cover, the customer owes.

    The shortfall passes through the dispute account, because only that may be fed by a debt.
    """
    covered = min(funds.available, amount)
    refund = DepositRefund(
        id=new_id(),
        deposit_id=deposit.id,
        origin=RefundOrigin.PROCESSOR,
        state=RefundState.SUCCEEDED,
        amount_nano_usd=amount,
        shortfall_nano_usd=amount - covered,
        idempotency_key=f"processor:{deposit.refunded_nano_usd + amount}",
        reason="paid back at the processor",
    )
    key, cash = f"deposit_refund:{refund.id}", CASH[deposit.rail]
    funds.move(key, TransferCode.DEPOSIT_REFUND, BALANCE, cash, covered)
    funds.move(f"{key}:owed", TransferCode.DISPUTE_SHORTFALL, RECEIVABLE, DISPUTE, amount - covered)
    funds.move(f"{key}:gone", TransferCode.DISPUTE_LOST, DISPUTE, cash, amount - covered)
    return refund


def _follow_disputes(deposit: Deposit, disputes: Sequence[Dispute], funds: Funds) -> str | None:
    """Plan what the disputes ask for; the reason to block the customer when one of them was opened just now."""
    alarm: str | None = None
    for dispute in disputes:
        dispute.organization_id = deposit.organization_id
        amount = nano_usd_of(dispute.amount)
        if dispute.currency != CURRENCY or amount > deposit.credited_nano_usd:
            dispute.held_reason = f"{dispute.amount} {dispute.currency} is disputed, {deposit.received_amount} {CURRENCY} was paid"
        if dispute.held_reason is not None:
            continue
        if dispute.booked is None and dispute.stage is not DisputeStage.INQUIRY:
            _open_dispute(dispute, amount, funds)
            alarm = f"the bank disputes a deposit ({dispute.reason})"
        if dispute.booked is not None:
            _book_dispute_fee(dispute, funds)
        if dispute.booked is DisputeBooking.OPENED and dispute.stage in FOLLOWS:
            _close_dispute(dispute, amount, funds)
    return alarm


def _open_dispute(dispute: Dispute, amount: int, funds: Funds) -> None:
    covered = min(funds.available, amount)
    key = f"dispute:{dispute.id}"
    funds.move(f"{key}:opened", TransferCode.DISPUTE_OPENED, BALANCE, DISPUTE, covered)
    funds.move(f"{key}:shortfall", TransferCode.DISPUTE_SHORTFALL, RECEIVABLE, DISPUTE, amount - covered)
    dispute.from_balance_nano_usd, dispute.from_receivable_nano_usd = covered, amount - covered
    dispute.booked = DisputeBooking.OPENED
    log.warning(
        "dispute.opened",
        dispute_id=str(dispute.id),
        organization_id=str(funds.organization_id),
        amount_nano_usd=amount,
        owed_nano_usd=amount - covered,
    )


def _book_dispute_fee(dispute: Dispute, funds: Funds) -> None:
    if dispute.fee_nano_usd is None and dispute.fee_amount > 0:
        dispute.fee_nano_usd = nano_usd_of(dispute.fee_amount)
        key = f"dispute:{dispute.id}:fee"
        funds.move(key, TransferCode.PAYMENT_FEE, COST, AccountKind.EXTERNAL_CARD, dispute.fee_nano_usd)


def _close_dispute(dispute: Dispute, amount: int, funds: Funds) -> None:
    won = dispute.stage is DisputeStage.WON
    code, credit = (
        (TransferCode.DISPUTE_WON, BALANCE) if won else (TransferCode.DISPUTE_LOST, AccountKind.EXTERNAL_CARD)
    )
    funds.move(f"dispute:{dispute.id}:{dispute.stage.value}", code, DISPUTE, credit, amount)
    dispute.booked = FOLLOWS[dispute.stage]
    log.info("dispute.closed", dispute_id=str(dispute.id), won=won, amount_nano_usd=amount)


async def _has_open_dispute(session: AsyncSession, organization_id: UUID) -> bool:
    query = select(func.count()).where(
        Dispute.organization_id == organization_id, Dispute.booked == DisputeBooking.OPENED
    )
    return bool(await session.scalar(query))


def _settlement_key() -> str:
    """Its own each time: what was paid of a debt is no function of the deposit, and the debt itself is the guard."""
    return f"receivable_settled:{new_id()}"


def _owes(funds: Funds) -> str:
    return f"{funds.owed} nano-USD are owed for a deposit that was taken back"
