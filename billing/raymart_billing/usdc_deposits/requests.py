"""A customer's request to pay in USDC: a row with a public key of its own, and the URL that a wallet pays by."""

from uuid import UUID

import structlog
from solders.keypair import Keypair
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.usdc_deposits.models import UsdcTopUp
from raymart_billing.usdc_deposits.rail import LABEL, UsdcRail
from raymart_billing.usdc_deposits.solana_pay import PaymentRequest
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.accounts.models import Organization

log = structlog.get_logger()

KEY_CHARACTERS_MAX = 128
OPEN_MAX = 100
"""Requests of one customer that have not expired: each is a row for good."""
MEMO_PREFIX = "raymart:"
"""Before the reference in a payment's memo, for wallets and exchanges that know no references."""


async def create_top_up(
    session: AsyncSession,
    rail: UsdcRail,
    *,
    organization_id: UUID,
    amount: Money | None,
    key: str,
    actor_id: UUID,
) -> UsdcTopUp:
    """A request with its URL; a repeat with the same `key` gives the same one. Locks the organization's row.

    `amount` is in USDC, or None to let the payer choose. Nothing is asked of the chain: what arrives is found by the
    reference, whenever it does. Raises: InvalidRequest (amount or key), Conflict (the key stands for another amount; too
    many open requests), NotFound.
    """
    check_amount(amount, rail)
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise InvalidRequest(
            f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters", param="idempotency_key"
        )
    # The lock keeps two creators from both seeing one less than the limit, and one key from making two rows.
    owner = select(Organization.name).where(Organization.id == organization_id)
    name = await session.scalar(owner.with_for_update(key_share=True))
    if name is None:
        raise NotFound(f"there is no organization {organization_id}", param="organization_id")
    found = await _known(session, organization_id, key=key, amount=amount)
    if found is not None:
        return found
    await _refuse_too_many(session, organization_id)
    reference = Keypair().pubkey()
    request = PaymentRequest(
        recipient=rail.treasury,
        mint=rail.mint,
        amount=amount,
        references=(reference,),
        label=LABEL,
        message="Top-up in USDC",
        memo=f"{MEMO_PREFIX}{reference}",
    )
    made = insert(UsdcTopUp).values(
        id=new_id(),
        organization_id=organization_id,
        reference=str(reference),
        amount_micro_usdc=None if amount is None else amount.amount,
        url=request.url(),
        idempotency_key=key,
        created_by=actor_id,
        expires_at=func.clock_timestamp() + rail.open_for,
    )
    row = (await session.scalars(made.returning(UsdcTopUp))).one()
    log.info("usdc_top_up.created", top_up_id=str(row.id), amount_micro_usdc=row.amount_micro_usdc)
    return row


def check_amount(amount: Money | None, rail: UsdcRail) -> None:
    """Raises: InvalidRequest unless `amount` is USDC within the limits, or left to the payer."""
    if amount is None:
        return
    if amount.asset is not Asset.USDC:
        raise InvalidRequest(f"{amount} cannot be paid in USDC; give an amount of USDC", param="amount")
    if not rail.amount_min <= amount <= rail.amount_max:
        raise InvalidRequest(
            f"a top-up of {amount} is not possible; give {rail.amount_min} to {rail.amount_max}",
            param="amount",
        )


async def _known(
    session: AsyncSession, organization_id: UUID, *, key: str, amount: Money | None
) -> UsdcTopUp | None:
    query = select(UsdcTopUp).where(
        UsdcTopUp.organization_id == organization_id, UsdcTopUp.idempotency_key == key
    )
    found = await session.scalar(query)
    if found is not None and found.amount_micro_usdc != (None if amount is None else amount.amount):
        raise Conflict(
            f"key {key!r} stands for a top-up of another amount; use a new key for another",
            param="idempotency_key",
        )
    return found


async def _refuse_too_many(session: AsyncSession, organization_id: UUID) -> None:
    open_ones = select(func.count()).where(
        UsdcTopUp.organization_id == organization_id, UsdcTopUp.expires_at > func.clock_timestamp()
    )
    if (await session.scalar(open_ones) or 0) >= OPEN_MAX:
        raise Conflict(
            f"{OPEN_MAX} requests are open, the most there may be; pay one of them again, or wait until they expire"
        )
