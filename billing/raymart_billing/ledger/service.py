"""Balances and grants. Takes a session, never commits.

One ledger call per transaction: each call locks its accounts in id order, but two calls in one transaction would lock
in two rounds and could wait for another transaction in a circle (PostgreSQL then ends one of them; it can be repeated).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind, LedgerAccount, Transfer, TransferCode
from raymart_billing.ledger.posting import Movement, open_account, post, transfer_by_key
from raymart_billing.ledger.refusals import AMOUNT_MAX
from raymart_core.errors import Conflict, InvalidRequest
from raymart_core.money import Asset, Money

log = structlog.get_logger()

GRANT_KEY_LENGTH_MAX = 200
PAGE_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an organization has: `available` = `posted` - `pending`."""

    posted: Money
    pending: Money
    """Held for requests that are running."""
    available: Money


async def grant_credit(
    session: AsyncSession, *, organization_id: UUID, amount: Money, key: str, actor_id: UUID | None
) -> Transfer:
    """Give `organization_id` promotional credit of `amount`; a repeat with the same `key` returns the first transfer.

    Opens the organization's accounts if they are new. Locks its balance and the platform's promotional_credit until the
    transaction ends. Raises: InvalidRequest, Conflict (the key was used for another grant).
    """
    if amount.asset is not Asset.USD or amount.amount <= 0:
        raise InvalidRequest(
            f"credit of {amount} cannot be granted; give more than 0 and at most {Money(AMOUNT_MAX)}",
            param="amount",
        )
    if not 0 < len(key) <= GRANT_KEY_LENGTH_MAX:
        raise InvalidRequest(
            f"idempotency key of {len(key)} characters; give 1 to {GRANT_KEY_LENGTH_MAX}", param="key"
        )
    balance_id = await open_account(session, AccountKind.CUSTOMER_BALANCE, organization_id)
    await open_account(session, AccountKind.USAGE_CLEARING, organization_id)
    promotion_id = await open_account(session, AccountKind.PROMOTIONAL_CREDIT)
    grant = Movement(
        # The prefix keeps a caller's keys out of the way of "hold:..." and "usage:...".
        key=f"grant:{key}",
        debit_account_id=promotion_id,
        credit_account_id=balance_id,
        amount=amount,
        code=TransferCode.CREDIT_GRANT,
    )
    try:
        is_new = await post(session, [grant], actor_id=actor_id)
    except Conflict as error:
        raise Conflict(
            f"key {key!r} was used for another grant; use a new key for a new grant", param="key"
        ) from error
    if is_new:
        log.info(
            "credit.granted",
            organization_id=str(organization_id),
            amount_nano_usd=amount.amount,
            actor_id=str(actor_id),
        )
    transfer = await transfer_by_key(session, grant.key)
    assert transfer is not None, f"no transfer {grant.key!r} after it was posted"
    return transfer


async def balance(session: AsyncSession, organization_id: UUID) -> Balance:
    """What `organization_id` has, now; zero before its first credit."""
    account = await _account(session, AccountKind.CUSTOMER_BALANCE, organization_id)
    if account is None:
        return Balance(posted=Money(0), pending=Money(0), available=Money(0))
    posted, pending = balance_of(account), Money(account.debits_pending, account.asset)
    return Balance(posted=posted, pending=pending, available=posted - pending)


async def account_number(session: AsyncSession, kind: AccountKind, owner_id: UUID) -> int | None:
    """The number of an owner's account; None before it is opened."""
    account = await _account(session, kind, owner_id)
    return None if account is None else account.id


async def earnings(session: AsyncSession, provider_id: UUID) -> Money:
    """What `provider_id` has earned and was not paid; zero before its first usage."""
    account = await _account(session, AccountKind.PROVIDER_PAYABLE, provider_id)
    return Money(0) if account is None else balance_of(account)


def balance_of(account: LedgerAccount) -> Money:
    """Posted credits - posted debits; negative for the platform's expenses."""
    return Money(account.credits_posted - account.debits_posted, account.asset)


async def accounts_page(
    session: AsyncSession, *, after: int = 0, limit: int = 50, kind: AccountKind | None = None
) -> Sequence[LedgerAccount]:
    """Up to `limit` (at most 100) accounts with ids over `after`, by id; of one `kind` when given."""
    assert 0 < limit <= PAGE_MAX, f"page of {limit}"
    query = select(LedgerAccount).where(LedgerAccount.id > after).order_by(LedgerAccount.id).limit(limit)
    if kind is not None:
        query = query.where(LedgerAccount.kind == kind)
    return (await session.scalars(query)).all()


async def _account(session: AsyncSession, kind: AccountKind, owner_id: UUID) -> LedgerAccount | None:
    query = select(LedgerAccount).where(
        LedgerAccount.kind == kind, LedgerAccount.owner_id == owner_id, LedgerAccount.asset == Asset.USD
    )
    # A session keeps what it read; a balance must be as of this call.
    return (await session.scalars(query.execution_options(populate_existing=True))).one_or_none()
