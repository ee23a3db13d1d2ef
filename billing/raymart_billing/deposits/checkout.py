"""A deposit by card from its beginning: our row, then Stripe's page, then the row again. No transaction spans the network.

    created --(Stripe made the page)--> pending --(paid)--> credited

A process that dies after the first commit leaves a row in `created`; the same call, by the customer or by the
reconciler, repeats Stripe's with the same idempotency key and so gets the same page.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.deposits.models import Deposit, DepositRail, DepositState
from raymart_billing.deposits.settle import locked, state_of
from raymart_billing.deposits.stripe_client import CheckoutOrder, CheckoutPage, Refused, StripeProcessor
from raymart_billing.deposits.stripe_facts import NANO_USD_PER_CENT, cents_of
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

KEY_CHARACTERS_MAX = 128
OPEN_DEPOSITS_MAX = 50
"""Of one customer, not yet paid, failed or expired."""
PAGE_LIFE = timedelta(hours=1)
"""How long the customer can pay; Stripe allows 30 minutes to 24 hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRules:
    """What a top-up by card may be, and where the customer goes from Stripe's page."""

    amount_min: Money
    amount_max: Money
    return_url: str
    """Both ends of the page lead here, with `deposit=` and `outcome=paid` or `outcome=left`."""


async def create_deposit(
    sessions: Sessions,
    processor: StripeProcessor,
    rules: CardRules,
    *,
    organization_id: UUID,
    amount: Money,
    key: str,
    actor_id: UUID,
) -> Deposit:
    """A deposit with a page to pay it on; a repeat with the same `key` gives the same deposit and page.

    Raises: InvalidRequest (amount or key), Conflict (the key stands for another amount; too many open deposits),
    NotFound, Refused (the deposit has then failed), Unavailable and Overloaded (repeat with the same key).
    """
    check_amount(amount, rules)
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise InvalidRequest(
            f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters", param="idempotency_key"
        )
    async with session_scope(sessions) as session:
        deposit = await _our_row(
            session, organization_id=organization_id, amount=amount, key=key, actor_id=actor_id
        )
    return await open_page(sessions, processor, rules, deposit)


async def open_page(
    sessions: Sessions, processor: StripeProcessor, rules: CardRules, deposit: Deposit
) -> Deposit:
    """Get the page of a deposit that has none yet. Idempotent. Raises: Refused, Unavailable, Overloaded."""
    if deposit.state is not DepositState.CREATED:
        return deposit
    link = f"{rules.return_url}?deposit={deposit.id.hex}&outcome="
    order = CheckoutOrder(
        deposit_id=deposit.id,
        organization_id=deposit.organization_id,
        amount_cents=cents_of(Money(deposit.amount_nano_usd)),
        expires_at=deposit.expires_at,
        success_url=f"{link}paid",
        cancel_url=f"{link}left",
    )
    try:
        page = await processor.create_checkout(order)
    except Refused as refusal:
        await _refused(sessions, deposit.id, refusal)
        raise
    async with session_scope(sessions) as session:
        return await _page_known(session, deposit.id, page)


def check_amount(amount: Money, rules: CardRules) -> None:
    """Raises: InvalidRequest unless `amount` is whole cents of dollars within the limits."""
    if amount.asset is not Asset.USD:
        raise InvalidRequest(f"{amount} cannot be paid by card; give US dollars", param="amount")
    if not rules.amount_min.amount <= amount.amount <= rules.amount_max.amount:
        raise InvalidRequest(
            f"a top-up of {amount} is not possible; give {rules.amount_min} to {rules.amount_max}",
            param="amount",
        )
    if amount.amount % NANO_USD_PER_CENT:
        raise InvalidRequest(f"{amount} is no whole number of cents", param="amount")


async def _our_row(
    session: AsyncSession, *, organization_id: UUID, amount: Money, key: str, actor_id: UUID
) -> Deposit:
    # The lock keeps two creators from both seeing 49. FOR NO KEY UPDATE: what refers to the organization goes on.
    owner = select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True)
    if await session.scalar(owner) is None:
        raise NotFound(f"there is no organization {organization_id}", param="organization_id")
    known = select(Deposit).where(Deposit.organization_id == organization_id, Deposit.idempotency_key == key)
    found = await session.scalar(known)
    if found is not None:
        if found.amount_nano_usd != amount.amount:
            raise Conflict(
                f"key {key!r} stands for a top-up of {Money(found.amount_nano_usd)}; use a new key for another",
                param="idempotency_key",
            )
        return found
    await _refuse_too_many(session, organization_id)
    made = (
        insert(Deposit)
        .values(
            id=new_id(),
            organization_id=organization_id,
            rail=DepositRail.CARD,
            state=DepositState.CREATED,
            amount_nano_usd=amount.amount,
            idempotency_key=key,
            created_by=actor_id,
            expires_at=func.clock_timestamp() + PAGE_LIFE,
        )
        .returning(Deposit)
    )
    return (await session.scalars(made)).one()


async def _refuse_too_many(session: AsyncSession, organization_id: UUID) -> None:
    open_deposits = select(func.count()).where(
        Deposit.organization_id == organization_id,
        Deposit.state.in_([DepositState.CREATED, DepositState.PENDING]),
    )
    if (await session.scalar(open_deposits) or 0) >= OPEN_DEPOSITS_MAX:
        raise Conflict(
            f"{OPEN_DEPOSITS_MAX} top-ups wait to be paid, the most there may be; pay one, or wait until they expire"
        )


async def _page_known(session: AsyncSession, deposit_id: UUID, page: CheckoutPage) -> Deposit:
    deposit = await locked(session, deposit_id)
    if deposit.session_id is None:
        deposit.session_id, deposit.session_url = page.session_id, page.url
        deposit.state = await state_of(session, deposit)
        await session.flush()
        log.info("deposit.created", deposit_id=str(deposit.id), amount_nano_usd=deposit.amount_nano_usd)
    assert deposit.session_id == page.session_id, f"deposit {deposit_id} got a second checkout session"
    return deposit


async def _refused(sessions: Sessions, deposit_id: UUID, refusal: Refused) -> None:
    async with session_scope(sessions) as session:
        deposit = await locked(session, deposit_id)
        if deposit.session_id is None:
            deposit.failed_reason = refusal.message[:500]
            deposit.state = await state_of(session, deposit)
