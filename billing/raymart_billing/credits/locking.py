"""Locking several accounts at once, before their balances are read to decide what is posted."""

from collections.abc import Collection

from sqlalchemy import ARRAY, BigInteger, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger import LedgerAccount

_LOCK = text("select ledger_lock_accounts(:ids)").bindparams(bindparam("ids", type_=ARRAY(BigInteger)))


async def lock_accounts(session: AsyncSession, account_ids: Collection[int]) -> dict[int, LedgerAccount]:
    """The accounts as they are now, locked by id until the transaction ends.

    Name all that the transaction will post to: the post then locks nothing new, so that there is one round of locks and
    two writers cannot wait for each other in a circle.
    """
    ids = sorted(account_ids)
    await session.execute(_LOCK, {"ids": ids})
    query = select(LedgerAccount).where(LedgerAccount.id.in_(ids))
    # A session keeps what it read; what counts is what is true under the lock.
    found = await session.scalars(query.execution_options(populate_existing=True))
    return {account.id: account for account in found}


def available_in(account: LedgerAccount) -> int:
    """What is in it and not held, in smallest units."""
    return account.credits_posted - account.debits_posted - account.debits_pending
