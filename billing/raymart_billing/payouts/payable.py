"""The accounts that payouts move money between, locked a chunk of providers at a time.

A chunk is a transaction of its own: whoever posts usage waits for some milliseconds at most. All accounts of a chunk are
locked at once and in id order, so nobody waits in a circle; what is read after that is what holds.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

CHUNK_PROVIDERS: Final = 250
"""At most two movements each stay below the thousand of one posting."""

_ACCOUNTS = text(
    "select owner_id, ledger_open_account('provider_payable', owner_id, 'usd') as payable,"
    " ledger_open_account(:other, owner_id, 'usd') as other from unnest(cast(:providers as uuid[])) owner_id"
)
_LOCK = text("select ledger_lock_accounts(cast(:ids as bigint[]))")


class Accounts:
    """The payable account and one other account of each provider of a chunk, by provider."""

    def __init__(self, rows: Sequence[tuple[UUID, int, int]]) -> None:
        self.payable = {provider_id: payable for provider_id, payable, _ in rows}
        self.other = {provider_id: other for provider_id, _, other in rows}


async def lock_accounts(session: AsyncSession, provider_ids: Sequence[UUID], *, other: str) -> Accounts:
    """Lock each provider's payable account and the one of kind `other`, opened if it is new, until the transaction ends.

    Read balances after this, in a statement of their own: under READ COMMITTED it sees all that was committed before.
    """
    assert 0 < len(provider_ids) <= CHUNK_PROVIDERS, f"a chunk of {len(provider_ids)}"
    rows = (await session.execute(_ACCOUNTS, {"providers": list(provider_ids), "other": other})).all()
    found = Accounts([(row.owner_id, row.payable, row.other) for row in rows])
    await session.execute(_LOCK, {"ids": [*found.payable.values(), *found.other.values()]})
    return found
