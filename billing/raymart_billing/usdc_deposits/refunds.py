"""A deposit on its way back to a wallet that paid it: a payout of one, which people approve and the engine sends.

    credited | final ──(request)──▶ refunding ──(final on the chain)──▶ refunded
        ▲                               └──(cancelled, or it can never land)──▶ as before
        └───────────────────────────────────────────────────────────────────────┘

The money leaves the customer's balance in the transaction that asks for it, and waits in `usdc_suspense`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from solders.pubkey import Pubkey
from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.credits import paid_part
from raymart_billing.deposits.blocks import checked_reason
from raymart_billing.deposits.funds import lock_funds
from raymart_billing.ledger import TransferCode, post
from raymart_billing.payout_wallets.exchanges import exchange_of
from raymart_billing.payouts.models import (
    BatchKind,
    BatchState,
    ItemState,
    PayoutAttempt,
    PayoutBatch,
    PayoutItem,
    PayoutPart,
)
from raymart_billing.solana.addresses import token_account
from raymart_billing.usdc_deposits.arrivals import wallets_of
from raymart_billing.usdc_deposits.attribution import blocked_among, exchanges_among
from raymart_billing.usdc_deposits.booking import returned_movements
from raymart_billing.usdc_deposits.crediting import BALANCE, NANO_USD_PER_MICRO, SUSPENSE, nano_usd_of
from raymart_billing.usdc_deposits.decisions import locked
from raymart_billing.usdc_deposits.models import UsdcDeposit, UsdcDepositState, UsdcRefund
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money

log = structlog.get_logger()

CANCELLED = "the refund was cancelled"
OPEN_STATES = frozenset({BatchState.PLANNED, BatchState.REVIEWED, BatchState.APPROVED, BatchState.HELD})
"""Of a batch that may be cancelled, as long as nothing of it was signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    """What is asked for."""

    deposit_id: UUID
    reason: str
    amount: Money | None = None
    """USDC; all of the deposit unless given. Only of a credited deposit a part can be paid back, and only once."""
    wallet: str | None = None
    """One of those that paid; needed when several did."""
    acknowledges_exchange: bool = False
    """That the wallet is an exchange's, and that somebody has made sure that it arrives at its customer there."""


async def request_refund(session: AsyncSession, order: RefundOrder, *, actor_id: UUID) -> PayoutBatch:
    """Plan the payout that sends the deposit back; `actor_id` may not approve it. Locks the deposit, then the accounts.

    Raises: InvalidRequest, NotFound, Conflict (its state; no wallet to pay back to; a blocked sender; an exchange that
    was not acknowledged; more than is left in the balance, paid and not held for requests).
    """
    reason = checked_reason(order.reason)
    deposit = await locked(session, order.deposit_id)
    if deposit.state not in {UsdcDepositState.FINAL, UsdcDepositState.CREDITED}:
        raise Conflict(
            f"this deposit is {deposit.state.value}; only what is final or credited can be paid back",
            param="deposit",
        )
    wallet = _wallet(deposit, order.wallet)
    await _refuse_sender(session, wallet, acknowledged=order.acknowledges_exchange)
    amount = _amount(deposit, order.amount)
    from_balance = deposit.state is UsdcDepositState.CREDITED
    refund_id = new_id()
    if from_balance:
        await _take(session, deposit, refund_id, amount, actor_id=actor_id)
    batch, item = await _plan(session, deposit, wallet=wallet, amount=amount, actor_id=actor_id)
    session.add(
        UsdcRefund(
            id=refund_id,
            deposit_id=deposit.id,
            item_id=item.id,
            wallet=wallet,
            amount_micro_usdc=amount.amount,
            from_balance=from_balance,
            exchange_acknowledged=order.acknowledges_exchange,
            reason=reason,
            actor_id=actor_id,
        )
    )
    deposit.state = UsdcDepositState.REFUNDING
    await session.flush()
    log.warning(
        "usdc_refund.requested",
        deposit_id=str(deposit.id),
        batch=batch.number,
        amount_micro_usdc=amount.amount,
        actor_id=str(actor_id),
    )
    return batch


async def cancel_refund(
    session: AsyncSession, deposit_id: UUID, *, reason: str, actor_id: UUID
) -> UsdcDeposit:
    """Take back a refund of which nothing was signed: the money is where it was before.

    Locks the batch, then the deposit, then the accounts. Raises: InvalidRequest, NotFound, Conflict.
    """
    checked = checked_reason(reason)
    query = select(PayoutItem).join(UsdcRefund, UsdcRefund.item_id == PayoutItem.id)
    item = await session.scalar(
        query.where(
            UsdcRefund.deposit_id == deposit_id,
            UsdcRefund.returned_at.is_(None),
            UsdcRefund.settled_at.is_(None),
        )
    )
    if item is None:
        raise NotFound("no refund of this deposit is on its way", param="deposit")
    batch = await session.get_one(PayoutBatch, item.batch_id, with_for_update=True, populate_existing=True)
    signed = exists().where(PayoutAttempt.part_id == PayoutPart.id, PayoutPart.batch_id == batch.id)
    if batch.state not in OPEN_STATES or await session.scalar(select(signed)):
        raise Conflict(
            f"batch {batch.number} is {batch.state.value} and may have been signed; what cannot land comes back by itself"
        )
    await session.refresh(item)
    item.state, item.reason = ItemState.RETURNED, CANCELLED
    await session.flush()
    batch.hold_reason = None
    batch.state, batch.finished_at = BatchState.CANCELLED, func.clock_timestamp()
    movements = await returned_movements(session, [item.id])
    if movements:
        await post(session, movements, actor_id=actor_id)
    log.warning("usdc_refund.cancelled", batch=batch.number, reason=checked, actor_id=str(actor_id))
    return await session.get_one(UsdcDeposit, deposit_id, populate_existing=True)


async def refundable(session: AsyncSession, deposit: UsdcDeposit, *, available: int) -> Money:
    """How much of a credited deposit could be paid back, when `available` nano-USD of the balance are not held."""
    assert deposit.organization_id is not None, "a credited deposit is somebody's"
    paid = await paid_part(session, deposit.organization_id)
    left = max(0, min(available, paid.amount)) // NANO_USD_PER_MICRO
    return Money(min(deposit.amount_micro_usdc, left), Asset.USDC)


def _wallet(deposit: UsdcDeposit, asked: str | None) -> str:
    wallets = wallets_of(deposit.sources)
    if not wallets:
        raise Conflict(
            "no wallet is known that paid this deposit; it cannot be paid back here", param="deposit"
        )
    if asked is None and len(wallets) > 1:
        raise InvalidRequest(
            f"{len(wallets)} wallets paid this deposit; name the one to pay it back to: {', '.join(wallets[:8])}",
            param="wallet",
        )
    if asked is not None and asked not in wallets:
        raise InvalidRequest(
            f"{asked[:60]!r} did not pay this deposit; it goes back to {' or '.join(wallets[:8])}",
            param="wallet",
        )
    wallet = asked or wallets[0]
    if not Pubkey.from_string(wallet).is_on_curve():
        raise Conflict(
            f"{wallet} belongs to a program, which nobody can be asked about; pay it back by hand",
            param="wallet",
        )
    return wallet


async def _refuse_sender(session: AsyncSession, wallet: str, *, acknowledged: bool) -> None:
    if await blocked_among(session, [wallet]):
        raise Conflict(
            f"{wallet} is a blocked sender: nothing is sent there. Take the mark away first if it is wrong",
            param="wallet",
        )
    exchange = exchange_of(wallet) or ("an exchange" if await exchanges_among(session, [wallet]) else None)
    if exchange is not None and not acknowledged:
        raise Conflict(
            f"{wallet} is {exchange}'s own, which pays for many customers: what is sent back there may reach nobody."
            " Make sure that it arrives, then acknowledge it",
            param="acknowledges_exchange",
        )


def _amount(deposit: UsdcDeposit, asked: Money | None) -> Money:
    whole = Money(deposit.amount_micro_usdc, Asset.USDC)
    if asked is None or asked == whole:
        return whole
    if asked.asset is not Asset.USDC or not 0 < asked.amount <= whole.amount:
        raise InvalidRequest(f"{asked} cannot be paid back of {whole}", param="amount")
    if deposit.state is not UsdcDepositState.CREDITED:
        raise InvalidRequest(
            f"nobody owns the rest of this deposit; pay back all of it, {whole}", param="amount"
        )
    return asked


async def _take(
    session: AsyncSession, deposit: UsdcDeposit, refund_id: UUID, amount: Money, *, actor_id: UUID
) -> None:
    assert deposit.organization_id is not None, "a credited deposit is somebody's"
    funds = await lock_funds(session, deposit.organization_id)
    limit = await refundable(session, deposit, available=funds.available)
    if amount > limit:
        raise Conflict(
            f"{amount} is more than can be paid back: {limit} of this deposit is left in the balance, not held for"
            " requests and not granted",
            param="amount",
        )
    key = f"usdc_refund:{refund_id}:withdrawn"
    funds.move(key, TransferCode.DEPOSIT_WITHDRAWN, BALANCE, SUSPENSE, nano_usd_of(amount.amount))
    await funds.post(session, actor_id=actor_id)


async def _plan(
    session: AsyncSession, deposit: UsdcDeposit, *, wallet: str, amount: Money, actor_id: UUID
) -> tuple[PayoutBatch, PayoutItem]:
    batch = PayoutBatch(
        id=new_id(),
        kind=BatchKind.DEPOSIT_REFUND,
        mint=deposit.mint,
        state=BatchState.PLANNED,
        total_micro_usdc=amount.amount,
        payees=1,
        created_by=actor_id,
    )
    session.add(batch)
    await session.flush()
    item = PayoutItem(
        id=new_id(),
        batch_id=batch.id,
        position=0,
        deposit_id=deposit.id,
        wallet=wallet,
        token_account=str(token_account(Pubkey.from_string(wallet), Pubkey.from_string(deposit.mint))),
        amount_micro_usdc=amount.amount,
    )
    session.add(item)
    await session.flush()
    return batch, item


async def refunds_of(session: AsyncSession, deposit_id: UUID) -> Sequence[UsdcRefund]:
    """All that were asked for, oldest first; all but the last came back."""
    query = select(UsdcRefund).where(UsdcRefund.deposit_id == deposit_id).order_by(UsdcRefund.id)
    return (await session.scalars(query)).all()
