"""What the engine of payouts books for refunds: nothing else than earnings' bookings do for providers.

The engine calls it in the transaction that ends a part; what is returned here it posts there.
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger import Movement, TransferCode, open_account
from raymart_billing.usdc_deposits.crediting import BALANCE, CASH, SUSPENSE, nano_usd_of
from raymart_billing.usdc_deposits.models import UsdcDeposit, UsdcDepositState, UsdcRefund
from raymart_core.money import Money

COULD_NOT_LAND = "its refund could not be paid; decide again"


class Item(Protocol):
    """An item of a payout, as far as this needs it."""

    @property
    def id(self) -> UUID:
        """The item's."""
        ...


class RefundBooking:
    """Refunds of deposits: their money waits in usdc_suspense."""

    async def settled(self, session: AsyncSession, items: Sequence[Item]) -> Sequence[Movement]:
        """usdc_suspense -> external_usdc: final on the chain. Locks the deposits."""
        suspense, cash = await open_account(session, SUSPENSE), await open_account(session, CASH)
        movements = []
        for refund, deposit in await _locked(session, [item.id for item in items]):
            if refund.settled_at is None:
                refund.settled_at = func.clock_timestamp()
                deposit.state = UsdcDepositState.REFUNDED
            movements.append(
                Movement(
                    key=f"payout:{refund.item_id}:settled",
                    debit_account_id=suspense,
                    credit_account_id=cash,
                    amount=Money(nano_usd_of(refund.amount_micro_usdc)),
                    code=TransferCode.DEPOSIT_USDC_REFUND,
                )
            )
        await session.flush()
        return movements

    async def returned(self, session: AsyncSession, items: Sequence[Item]) -> Sequence[Movement]:
        """Back to where it was before: the customer's balance, or nobody's."""
        return await returned_movements(session, [item.id for item in items])


async def returned_movements(session: AsyncSession, item_ids: Sequence[UUID]) -> Sequence[Movement]:
    """What to post for refunds that can never land; their deposits are as they were before. Locks the deposits."""
    movements = []
    for refund, deposit in await _locked(session, item_ids):
        if refund.returned_at is None:
            refund.returned_at = func.clock_timestamp()
            deposit.state = UsdcDepositState.CREDITED if refund.from_balance else UsdcDepositState.FINAL
            deposit.held_reason = None if refund.from_balance else COULD_NOT_LAND
        if refund.from_balance:
            movements.append(await _given_back(session, refund, deposit))
    await session.flush()
    return movements


async def _given_back(session: AsyncSession, refund: UsdcRefund, deposit: UsdcDeposit) -> Movement:
    return Movement(
        key=f"payout:{refund.item_id}:returned",
        debit_account_id=await open_account(session, SUSPENSE),
        credit_account_id=await open_account(session, BALANCE, deposit.organization_id),
        amount=Money(nano_usd_of(refund.amount_micro_usdc)),
        code=TransferCode.DEPOSIT_ASSIGNED,
    )


async def _locked(
    session: AsyncSession, item_ids: Sequence[UUID]
) -> Sequence[tuple[UsdcRefund, UsdcDeposit]]:
    query = (
        select(UsdcRefund, UsdcDeposit)
        .join(UsdcDeposit, UsdcDeposit.id == UsdcRefund.deposit_id)
        .where(UsdcRefund.item_id.in_(item_ids))
        .order_by(UsdcDeposit.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    found = [(row[0], row[1]) for row in (await session.execute(query)).all()]
    assert len(found) == len(set(item_ids)), "each item of such a batch is a refund's"
    return found
