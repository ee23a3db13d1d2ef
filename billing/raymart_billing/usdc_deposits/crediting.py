"""From what arrived to the books, once: the one path by which USDC comes in.

    seen (confirmed, no money) ──▶ final + credited       the customer's, by its request
                              └──▶ final                  in usdc_suspense: nobody's yet, or held

A final transaction is written down as a movement of the treasury, by its signature and account. Only who writes that row
books the deposit, in the same transaction; whoever reads the chain again finds the row and books nothing.
"""

from dataclasses import asdict

import structlog
from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.funds import Funds, lock_funds
from raymart_billing.deposits.settle import lift_if_clear
from raymart_billing.ledger import AccountKind, Movement, TransferCode, open_account, post
from raymart_billing.usdc_deposits.arrivals import Arrival
from raymart_billing.usdc_deposits.attribution import Attributed, attribute
from raymart_billing.usdc_deposits.models import TreasuryMovement, UsdcDeposit, UsdcDepositState
from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_core.money import AMOUNT_MAX, Money

log = structlog.get_logger()

NANO_USD_PER_MICRO = 1_000
BALANCE, SUSPENSE = AccountKind.CUSTOMER_BALANCE, AccountKind.USDC_SUSPENSE
CASH = AccountKind.EXTERNAL_USDC
NOT_FINAL = (UsdcDepositState.SEEN, UsdcDepositState.DROPPED)


class StoriesDiffer(Unavailable):
    """The chain tells something else of a final transaction than it did before: one of the two was a lie."""


async def see(session: AsyncSession, arrival: Arrival) -> bool:
    """Show a confirmed payment that is not final, without any money; returns whether it was new. Repeats change nothing."""
    if arrival.delta_micro_usdc <= 0 or arrival.delta_micro_usdc > AMOUNT_MAX // NANO_USD_PER_MICRO:
        return False
    facts = _facts(arrival, await attribute(session, arrival))
    row = insert(UsdcDeposit).values(id=new_id(), **facts, state=UsdcDepositState.SEEN)
    shown = row.on_conflict_do_update(
        index_elements=["signature", "account"],
        set_={**facts, "state": UsdcDepositState.SEEN},
        where=UsdcDeposit.state == UsdcDepositState.DROPPED,
    )
    return await session.scalar(shown.returning(UsdcDeposit.id)) is not None


async def book(session: AsyncSession, arrival: Arrival) -> UsdcDeposit | None:
    """Write down a final transaction, and book what came in; None when nothing did, or when it was known.

    Locks the customer's accounts. Raises: StoriesDiffer; Unavailable, for more than the books can hold.
    """
    if abs(arrival.delta_micro_usdc) > AMOUNT_MAX // NANO_USD_PER_MICRO:
        raise Unavailable(
            f"transaction {arrival.signature} moved {arrival.delta_micro_usdc} micro-USDC, more than the books hold;"
            " look it up by hand"
        )
    if not await _is_new(session, arrival):
        return None
    if arrival.delta_micro_usdc <= 0:
        await _forget(session, arrival)
        return None
    deposit = await _final(session, arrival, await attribute(session, arrival))
    if deposit.organization_id is not None and deposit.held_reason is None:
        await _credit(session, deposit)
    else:
        await _suspend(session, deposit)
    await session.flush()
    log.info(
        "usdc_deposit.final",
        deposit_id=str(deposit.id),
        state=deposit.state.value,
        amount_micro_usdc=deposit.amount_micro_usdc,
    )
    return deposit


def key_of(deposit: UsdcDeposit) -> str:
    """The key of the transfer that brought it in; what follows it adds a word."""
    return f"usdc_deposit:{deposit.signature}:{deposit.account}"


def nano_usd_of(micro_usdc: int) -> int:
    """USDC as dollars, one to one, exact."""
    return micro_usdc * NANO_USD_PER_MICRO


async def pay_debt_and_post(session: AsyncSession, funds: Funds) -> None:
    """Post what is planned. New money pays a debt before anything else, and ends a rule's block with it."""
    funds.settle_debt(f"receivable_settled:{new_id()}")
    planned = len(funds.planned)
    new = await funds.post(session)
    assert new == planned, f"{planned - new} movements of {funds.organization_id} were posted before"
    await lift_if_clear(session, funds)


async def _is_new(session: AsyncSession, arrival: Arrival) -> bool:
    row = insert(TreasuryMovement).values(
        signature=arrival.signature,
        account=arrival.account,
        slot=arrival.slot,
        block_time=arrival.block_time,
        delta_micro_usdc=arrival.delta_micro_usdc,
        failed=arrival.failed,
    )
    added = await session.scalar(row.on_conflict_do_nothing().returning(TreasuryMovement.number))
    if added is not None:
        return True
    known = await session.get_one(TreasuryMovement, (arrival.signature, arrival.account))
    if (known.delta_micro_usdc, known.failed) != (arrival.delta_micro_usdc, arrival.failed):
        raise StoriesDiffer(
            f"transaction {arrival.signature} moved {known.delta_micro_usdc} micro-USDC when it was read first and"
            f" {arrival.delta_micro_usdc} now; nothing is booked until a person has found out who lies"
        )
    return False


async def _final(session: AsyncSession, arrival: Arrival, known: Attributed) -> UsdcDeposit:
    """The deposit's row, made or brought from `seen` to what is true at the end."""
    facts = {**_facts(arrival, known), "final_at": func.clock_timestamp()}
    row = insert(UsdcDeposit).values(id=new_id(), **facts, state=UsdcDepositState.FINAL)
    merged = row.on_conflict_do_update(
        index_elements=["signature", "account"],
        set_={**facts, "state": UsdcDepositState.FINAL},
        where=UsdcDeposit.state.in_(NOT_FINAL),
    )
    rows = await session.scalars(merged.returning(UsdcDeposit), execution_options={"populate_existing": True})
    return rows.one()


async def _credit(session: AsyncSession, deposit: UsdcDeposit) -> None:
    assert deposit.organization_id is not None
    funds = await lock_funds(session, deposit.organization_id)
    amount = nano_usd_of(deposit.amount_micro_usdc)
    funds.move(key_of(deposit), TransferCode.DEPOSIT_USDC, CASH, BALANCE, amount)
    await pay_debt_and_post(session, funds)
    deposit.state, deposit.credited_at = UsdcDepositState.CREDITED, deposit.final_at


async def _suspend(session: AsyncSession, deposit: UsdcDeposit) -> None:
    movement = Movement(
        key=key_of(deposit),
        debit_account_id=await open_account(session, CASH),
        credit_account_id=await open_account(session, SUSPENSE),
        amount=Money(nano_usd_of(deposit.amount_micro_usdc)),
        code=TransferCode.DEPOSIT_UNATTRIBUTED,
    )
    new = await post(session, [movement])
    assert new == 1, f"deposit {deposit.signature} was booked before"


async def _forget(session: AsyncSession, arrival: Arrival) -> None:
    """It was seen as a payment, and is none: it failed in the block that became final."""
    await session.execute(
        update(UsdcDeposit)
        .where(
            UsdcDeposit.signature == arrival.signature,
            UsdcDeposit.account == arrival.account,
            UsdcDeposit.state == UsdcDepositState.SEEN,
        )
        .values(state=UsdcDepositState.DROPPED)
    )


def _facts(arrival: Arrival, known: Attributed) -> dict[str, object]:
    return {
        "signature": arrival.signature,
        "account": arrival.account,
        "mint": arrival.mint,
        "amount_micro_usdc": arrival.delta_micro_usdc,
        "slot": arrival.slot,
        "block_time": arrival.block_time,
        "sources": [asdict(source) for source in arrival.sources],
        "memo": arrival.memo,
        "reference": known.reference,
        "top_up_id": known.top_up_id,
        "organization_id": known.organization_id,
        "attributed_by": known.by,
        "held_reason": known.held_reason,
    }
