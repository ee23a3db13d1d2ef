"""USDC that the platform itself took out of its treasury: recorded by its transaction, booked against its capital."""

from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, TransferCode
from raymart_billing.ledger.posting import Movement, open_account, post
from raymart_billing.payouts.models import PayoutAttempt, PayoutPart
from raymart_billing.payouts.reconciliation.facts import NANO_USD_PER_MICRO_USDC, TreasuryTransaction
from raymart_billing.payouts.reconciliation.models import REASON_CHARACTERS_MAX, TreasuryWithdrawal
from raymart_billing.payouts.reconciliation.opening import reader_of
from raymart_billing.solana.chain import Chain
from raymart_core.errors import Conflict, InvalidRequest
from raymart_core.money import Money


async def look_up(chain: Chain, signature: str) -> TreasuryTransaction:
    """The finalized transaction as it concerns the treasury. Raises: InvalidRequest, RpcError."""
    [found] = await reader_of(chain).transactions([signature])
    if not isinstance(found, TreasuryTransaction):
        raise InvalidRequest(
            f"the endpoints do not all have {signature[:100]!r} as a finalized transaction", param="signature"
        )
    return found


async def record_withdrawal(
    session: AsyncSession,
    transaction: TreasuryTransaction,
    *,
    reason: str,
    recorded_by: UUID | None,
) -> TreasuryWithdrawal:
    """Book what `transaction`, finalized, took out of the treasury; once per signature.

    Key: "treasury:<signature>:withdrawn". Raises: InvalidRequest where it is no payment, Conflict where it is a payout or
    was recorded before, InsufficientFunds where the platform never put as much in.
    """
    if not 1 <= len(reason.strip()) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(reason.strip())} characters; give 1 to {REASON_CHARACTERS_MAX}", param="reason"
        )
    signature = transaction.signature
    if transaction.is_failed or transaction.change_micro_usdc >= 0:
        raise InvalidRequest(
            f"{signature} took nothing out of the treasury ({transaction.change_micro_usdc:+d} micro-USDC)",
            param="signature",
        )
    if await session.get(TreasuryWithdrawal, signature) is not None:
        raise Conflict(f"{signature} is recorded already")
    if await _is_payout(session, transaction):
        raise Conflict(f"{signature} is an attempt of a payout; it is settled by its own rows")
    amount = -transaction.change_micro_usdc
    await post(
        session,
        [
            Movement(
                key=f"treasury:{signature}:withdrawn",
                debit_account_id=await open_account(session, AccountKind.PLATFORM_CAPITAL),
                credit_account_id=await open_account(session, AccountKind.EXTERNAL_USDC),
                amount=Money(amount * NANO_USD_PER_MICRO_USDC),
                code=TransferCode.TREASURY_WITHDRAWN,
            )
        ],
        actor_id=recorded_by,
    )
    withdrawal = TreasuryWithdrawal(
        signature=signature,
        slot=transaction.slot,
        amount_micro_usdc=amount,
        reason=reason.strip(),
        recorded_by=recorded_by,
    )
    session.add(withdrawal)
    await session.flush()
    return withdrawal


async def _is_payout(session: AsyncSession, transaction: TreasuryTransaction) -> bool:
    """Whether a part signed it, or its marker is named in it."""
    signed = select(PayoutAttempt.id).where(PayoutAttempt.signature == transaction.signature).exists()
    marked = (
        select(PayoutPart.id)
        .where(
            or_(
                PayoutPart.signature == transaction.signature,
                PayoutPart.marker.in_(transaction.accounts),
            )
        )
        .exists()
    )
    return bool((await session.execute(select(or_(signed, marked)))).scalar_one())
