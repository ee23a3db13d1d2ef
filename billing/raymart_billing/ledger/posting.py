"""Posting: how services of this process move money. One call writes all its movements or none of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import PLATFORM_KINDS, AccountKind, Transfer, TransferCode
from raymart_billing.ledger.refusals import AMOUNT_MAX, KEY_OF_ANOTHER, NO_OVERDRAFT, refused_by
from raymart_core.errors import Conflict, DomainError, InsufficientFunds, InvalidRequest
from raymart_core.money import Asset, Money

MOVEMENTS_MAX = 1_000
KEY_CHARACTERS_MAX = 255

_OPEN = text("select ledger_open_account(:kind, cast(:owner as uuid), 'usd')")
_POST = text(
    "select ledger_post_batch(cast(:keys as text[]), cast(:debits as bigint[]), cast(:credits as bigint[]),"
    " cast(:amounts as bigint[]), cast(:codes as text[]), cast(:actor as uuid))"
)
_FAILING_ACCOUNT = re.compile(r"\((\d+), (\w+), ")
"""The first two columns of the row that PostgreSQL names in the detail of a failed CHECK: the account's id and kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One amount from one account to another; becomes one posted `transfer`, once per `key`."""

    key: str
    """Idempotency key, 1 to 255 characters, "<what>:<its id>"; for all of the ledger, so begin it with your own word."""
    debit_account_id: int
    """Where it leaves."""
    credit_account_id: int
    """Where it goes."""
    amount: Money
    """More than 0, in the asset of both accounts: dollars."""
    code: TransferCode
    """Why. It determines which kind of account may be debited and which credited; the database refuses others."""


async def open_account(session: AsyncSession, kind: AccountKind, owner_id: UUID | None = None) -> int:
    """The number of the dollar account of `kind` of `owner_id` (none for the platform's own), opened if it is new."""
    assert (owner_id is None) == (kind in PLATFORM_KINDS), f"{kind} with owner {owner_id}"
    account_id: int = (await session.execute(_OPEN, {"kind": kind.value, "owner": owner_id})).scalar_one()
    return account_id


async def post(session: AsyncSession, movements: Sequence[Movement], *, actor_id: UUID | None = None) -> int:
    """Post 1 to 1,000 movements in one statement, all or none; returns how many were new.

    A key that posted the same movement before is skipped, so that a repeat is a no-op. What counts for an overdraft is
    the net effect of the whole batch. Locks all accounts, by id, until the transaction ends; call it once per
    transaction. After a refusal the transaction can only be rolled back.

    Raises: InvalidRequest (an amount, a key or the number of movements), Conflict (a key was used for another
    transfer), InsufficientFunds (an account that may not owe would).
    """
    _check(movements)
    batch = {
        "keys": [movement.key for movement in movements],
        "debits": [movement.debit_account_id for movement in movements],
        "credits": [movement.credit_account_id for movement in movements],
        "amounts": [movement.amount.amount for movement in movements],
        "codes": [movement.code.value for movement in movements],
        "actor": actor_id,
    }
    try:
        new: int = (await session.execute(_POST, batch)).scalar_one()
    except DBAPIError as error:
        refusal = refusal_of(error.orig)
        if refusal is None:
            raise
        raise refusal from error
    return new


async def transfer_by_key(session: AsyncSession, key: str) -> Transfer | None:
    """The transfer that `key` wrote."""
    return (await session.scalars(select(Transfer).where(Transfer.key == key))).one_or_none()


def refusal_of(error: BaseException | None) -> DomainError | None:
    """What the database refused, in words for the user; None when `error` is something else: a bug or an outage."""
    if refused_by(KEY_OF_ANOTHER, error):
        assert isinstance(error, psycopg.Error)
        return Conflict(
            f"{error.diag.message_primary}; use a new key for a new movement of money", param="key"
        )
    if refused_by(NO_OVERDRAFT, error):
        assert isinstance(error, psycopg.Error)
        found = _FAILING_ACCOUNT.search(error.diag.message_detail or "")
        account = f"account {found[1]} ({found[2]})" if found else "the debited account"
        return InsufficientFunds(f"{account} does not cover this; it may not owe. Add funds or move less")
    if isinstance(error, psycopg.errors.NumericValueOutOfRange):
        return InvalidRequest(
            f"an account would hold more than {Money(AMOUNT_MAX)}, the most there can be; move less",
            param="amount",
        )
    return None


def _check(movements: Sequence[Movement]) -> None:
    if not 1 <= len(movements) <= MOVEMENTS_MAX:
        raise InvalidRequest(f"a batch is 1 to {MOVEMENTS_MAX} movements, not {len(movements)}")
    for movement in movements:
        if movement.amount.asset is not Asset.USD or movement.amount.amount <= 0:
            raise InvalidRequest(
                f"{movement.key!r} of {movement.amount} cannot be posted; "
                f"an amount is more than 0 and at most {Money(AMOUNT_MAX)}",
                param="amount",
            )
        if not 1 <= len(movement.key) <= KEY_CHARACTERS_MAX:
            raise InvalidRequest(
                f"idempotency key of {len(movement.key)} characters; give 1 to {KEY_CHARACTERS_MAX}",
                param="key",
            )
