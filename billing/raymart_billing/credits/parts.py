"""Reading what balances are made of, from the ledger and from what was remembered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.credits.consumption import EMPTY, Entry, Parts, fold
from raymart_billing.credits.models import CreditCheckpoint
from raymart_billing.ledger import TransferCode
from raymart_core.money import Money

ENTRIES_PER_READ_MAX = 10_000
CHECKPOINT_AFTER = 200
"""Entries that are read again on each look before `remember` spares them."""

# Two branches, each in the order of an index: PostgreSQL merges them and stops at the limit.
_ENTRIES = text(
    """
    with account as (
        select id from ledger_account where kind = 'customer_balance' and owner_id = :owner and asset = 'usd'
    ), movement as (
        (select t.id, t.code, t.amount as change, t.reverses_id from transfer t
          where t.credit_account_id = (select id from account) and t.state = 'posted' and t.id > :after
          order by t.id limit :entries_max)
        union all
        (select t.id, t.code, -t.amount, t.reverses_id from transfer t
          where t.debit_account_id = (select id from account) and t.state = 'posted' and t.id > :after
          order by t.id limit :entries_max)
    )
    select m.id, m.code, m.change, m.reverses_id, g.expires_at
      from movement m
      left join credit_grant g on g.transfer_id = m.id and m.code = 'credit_grant'
     order by m.id
     limit :entries_max
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a balance is made of, and how much had to be read to say so."""

    parts: Parts
    through_id: int
    """The last transfer that counts."""
    entries_read: int


async def read_parts(session: AsyncSession, organization_id: UUID) -> Reading:
    """What the organization's balance is made of, as of this statement's snapshot. Writes nothing.

    Reads what the ledger wrote since the checkpoint. To act on it, lock the balance first.
    """
    checkpoint = await session.get(CreditCheckpoint, organization_id, populate_existing=True)
    parts = EMPTY if checkpoint is None else Parts.from_json(checkpoint.parts)
    through_id = 0 if checkpoint is None else checkpoint.through_id
    entries_read = 0
    while True:
        entries = await _entries(session, organization_id, after=through_id)
        parts = fold(entries, parts)
        entries_read += len(entries)
        through_id = entries[-1].transfer_id if entries else through_id
        if len(entries) < ENTRIES_PER_READ_MAX:
            return Reading(parts=parts, through_id=through_id, entries_read=entries_read)


async def recompute_parts(session: AsyncSession, organization_id: UUID) -> Parts:
    """The same from the ledger alone, for checks: every transfer of the balance is read."""
    parts, after = EMPTY, 0
    while entries := await _entries(session, organization_id, after=after):
        parts, after = fold(entries, parts), entries[-1].transfer_id
    return parts


async def remember(session: AsyncSession, organization_id: UUID, reading: Reading) -> None:
    """Keep `reading`, so that the next one reads only what is newer. An older one changes nothing."""
    made = insert(CreditCheckpoint).values(
        organization_id=organization_id, through_id=reading.through_id, parts=reading.parts.to_json()
    )
    await session.execute(
        made.on_conflict_do_update(
            index_elements=[CreditCheckpoint.organization_id],
            set_={
                "through_id": made.excluded.through_id,
                "parts": made.excluded.parts,
                "updated_at": func.clock_timestamp(),
            },
            where=CreditCheckpoint.through_id < made.excluded.through_id,
        )
    )


async def paid_part(session: AsyncSession, organization_id: UUID) -> Money:
    """The part of the balance that was paid: what may go back to a card."""
    return Money((await read_parts(session, organization_id)).parts.paid)


async def promotional_parts(session: AsyncSession, organization_ids: Sequence[UUID]) -> Mapping[UUID, Parts]:
    """What the balances of several organizations are made of."""
    return {owner: (await read_parts(session, owner)).parts for owner in organization_ids}


async def _entries(session: AsyncSession, organization_id: UUID, *, after: int) -> Sequence[Entry]:
    rows = await session.execute(
        _ENTRIES, {"owner": organization_id, "after": after, "entries_max": ENTRIES_PER_READ_MAX}
    )
    return [
        Entry(
            transfer_id=row.id,
            code=TransferCode(row.code),
            change=row.change,
            expires_at=row.expires_at,
            reverses_id=row.reverses_id,
        )
        for row in rows
    ]
