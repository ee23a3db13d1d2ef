"""What people decide about payments that nobody can tell, or that are held: whose they are, or the treasury's own."""

from uuid import UUID

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.blocks import checked_reason
from raymart_billing.deposits.funds import lock_funds
from raymart_billing.ledger import AccountKind, Movement, TransferCode, open_account, post
from raymart_billing.usdc_deposits.crediting import BALANCE, SUSPENSE, key_of, nano_usd_of, pay_debt_and_post
from raymart_billing.usdc_deposits.models import Attribution, UsdcDeposit, UsdcDepositState
from raymart_core.errors import Conflict, NotFound
from raymart_core.money import Money

log = structlog.get_logger()

_CUSTOMER = text(
    "select exists (select from organization_erasure e where e.organization_id = o.id and e.erased_at is not null)"
    " from organization o where o.id = :id"
)


async def assign_deposit(
    session: AsyncSession, deposit_id: UUID, *, organization_id: UUID, reason: str, actor_id: UUID
) -> UsdcDeposit:
    """Credit a deposit in suspense to a customer, also one that is held. Locks the deposit, then the accounts.

    Raises: InvalidRequest (reason), NotFound, Conflict (it is decided already; the customer was erased).
    """
    checked = checked_reason(reason)
    deposit = await locked(session, deposit_id)
    _refuse_unless_in_suspense(deposit)
    is_erased = await session.scalar(_CUSTOMER, {"id": organization_id})
    if is_erased is None:
        raise NotFound(f"there is no organization {organization_id}", param="organization_id")
    if is_erased:
        raise Conflict("this customer was erased; nothing is credited to it", param="organization_id")
    funds = await lock_funds(session, organization_id)
    amount = nano_usd_of(deposit.amount_micro_usdc)
    funds.move(f"{key_of(deposit)}:assigned", TransferCode.DEPOSIT_ASSIGNED, SUSPENSE, BALANCE, amount)
    await pay_debt_and_post(session, funds)
    if deposit.organization_id != organization_id:
        deposit.organization_id, deposit.attributed_by = organization_id, Attribution.PERSON
    deposit.credited_at = await session.scalar(select(func.clock_timestamp()))
    _decided(deposit, UsdcDepositState.CREDITED, reason=checked, actor_id=actor_id)
    await session.flush()
    return deposit


async def fund_treasury(
    session: AsyncSession, deposit_id: UUID, *, reason: str, actor_id: UUID
) -> UsdcDeposit:
    """Book a deposit in suspense as the platform's own, which fills up its treasury. Locks the deposit.

    Raises: InvalidRequest (reason), NotFound, Conflict (it is decided already; it names a customer's request).
    """
    checked = checked_reason(reason)
    deposit = await locked(session, deposit_id)
    _refuse_unless_in_suspense(deposit)
    if deposit.organization_id is not None:
        raise Conflict("this deposit names a customer's request; assign it or pay it back", param="deposit")
    movement = Movement(
        key=f"{key_of(deposit)}:funding",
        debit_account_id=await open_account(session, SUSPENSE),
        credit_account_id=await open_account(session, AccountKind.PLATFORM_CAPITAL),
        amount=Money(nano_usd_of(deposit.amount_micro_usdc)),
        code=TransferCode.TREASURY_FUNDING,
    )
    await post(session, [movement], actor_id=actor_id)
    _decided(deposit, UsdcDepositState.FUNDING, reason=checked, actor_id=actor_id)
    await session.flush()
    return deposit


async def locked(session: AsyncSession, deposit_id: UUID) -> UsdcDeposit:
    """The deposit as it is now, locked until the transaction ends. Raises: NotFound."""
    query = select(UsdcDeposit).where(UsdcDeposit.id == deposit_id).with_for_update(key_share=True)
    found = (await session.scalars(query.execution_options(populate_existing=True))).one_or_none()
    if found is None:
        raise NotFound(f"there is no deposit {deposit_id}", param="deposit")
    return found


async def deposit_of(session: AsyncSession, signature: str, *, account: str | None = None) -> UsdcDeposit:
    """The deposit that transaction `signature` made. Raises: NotFound; Conflict when it made several and none is named."""
    query = select(UsdcDeposit).where(UsdcDeposit.signature == signature)
    if account is not None:
        query = query.where(UsdcDeposit.account == account)
    found = (await session.scalars(query.limit(2))).all()
    if not found:
        raise NotFound(
            f"there is no deposit by transaction {signature[:100]!r}; `raymart usdc deposits` lists them",
            param="signature",
        )
    if len(found) > 1:
        raise Conflict(f"transaction {signature} paid two of our accounts; name the account", param="account")
    return found[0]


def _refuse_unless_in_suspense(deposit: UsdcDeposit) -> None:
    if deposit.state is not UsdcDepositState.FINAL:
        raise Conflict(
            f"this deposit is {deposit.state.value}, and only what is final and undecided can be decided;"
            " nothing was changed",
            param="deposit",
        )


def _decided(deposit: UsdcDeposit, state: UsdcDepositState, *, reason: str, actor_id: UUID) -> None:
    deposit.state, deposit.held_reason = state, None
    deposit.decided_by, deposit.decision_reason = actor_id, reason
    log.warning("usdc_deposit.decided", deposit_id=str(deposit.id), state=state.value, actor_id=str(actor_id))
