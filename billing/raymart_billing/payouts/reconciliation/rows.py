"""Our side of a reconciliation, read from the tables in one snapshot."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import TransferCode
from raymart_billing.payouts.reconciliation.facts import (
    Booked,
    BookedItem,
    BookedPart,
    LedgerLine,
)
from raymart_billing.payouts.reconciliation.signed_bytes import MarkerAddresses, read_attempt
from raymart_billing.payouts.sending.settling import successor_of

PARTS_PER_READ = 500

_SNAPSHOT = "set transaction isolation level repeatable read, read only"
_PART_COLUMNS = """
    p.id, b.number as batch_number, p.position, p.generation, p.state, p.total_micro_usdc, p.marker,
    p.marker_reclaimed_at is not null as is_marker_reclaimed, p.signature, p.slot, p.fee_lamports
"""
_PARTS_SINCE = text(
    f"""
    select {_PART_COLUMNS}
      from payout_part p join payout_batch b on b.id = p.batch_id
     where (cast(:since as timestamptz) is null or p.finalized_at is null or p.finalized_at >= :since) and p.id > :after
     order by p.id
     limit :parts_max
    """  # noqa: S608 - a constant of this file
)
_PARTS_OF = text(
    f"""
    select {_PART_COLUMNS}
      from payout_part p join payout_batch b on b.id = p.batch_id
     where p.signature = any(:signatures) or p.marker = any(:accounts)
        or exists (select from payout_attempt a where a.part_id = p.id and a.signature = any(:signatures))
     order by p.id
    """  # noqa: S608 - a constant of this file
)
_SUCCESSORS = text("select id from payout_part where id = any(:part_ids)")
_ITEMS = text(
    """
    select id, part_id, provider_id, wallet, token_account, amount_micro_usdc, state
      from payout_item where part_id = any(:part_ids) order by position
    """
)
_ATTEMPTS = text(
    """
    select id, part_id, number, signature, state, raw_transaction
      from payout_attempt where part_id = any(:part_ids) order by number
    """
)
_TRANSFERS = text(
    """
    select t.key, t.code, t.amount, a.owner_id
      from unnest(cast(:keys as text[])) k (key)
      join transfer t on t.key = k.key and t.state = 'posted'
      join ledger_account a on a.id = t.debit_account_id
    """
)
_CHANGES = text(
    """
    select 'treasury_withdrawal' as source, signature as subject, signature, -amount_micro_usdc as change
      from treasury_withdrawal where slot > :after_slot
     union all
    select 'usdc_deposit', id::text, signature, amount_micro_usdc
      from usdc_deposit where account = :account and slot > :after_slot and state not in ('seen', 'dropped')
    """
)
_WORDS = ("sent", "settled", "returned")


async def begin_snapshot(session: AsyncSession) -> None:
    """Have all that `session` reads be of one moment; call it first."""
    await session.execute(text(_SNAPSHOT))


async def parts_since(
    session: AsyncSession, *, since: datetime | None, after: UUID, markers: MarkerAddresses
) -> Sequence[BookedPart]:
    """At most `PARTS_PER_READ` parts with an id above `after` that were not finalized before `since`, by id."""
    wanted = {"since": since, "after": after, "parts_max": PARTS_PER_READ}
    return await _whole(session, (await session.execute(_PARTS_SINCE, wanted)).mappings().all(), markers)


async def parts_of(
    session: AsyncSession,
    *,
    signatures: Collection[str],
    accounts: Collection[str],
    markers: MarkerAddresses,
) -> Sequence[BookedPart]:
    """The parts that signed one of `signatures` or whose marker is among `accounts`, however old."""
    wanted = {"signatures": list(signatures), "accounts": list(accounts)}
    return await _whole(session, (await session.execute(_PARTS_OF, wanted)).mappings().all(), markers)


async def booked_changes(session: AsyncSession, *, account: str, after_slot: int) -> Sequence[Booked]:
    """Rows, other than payouts, of changes of the treasury's token account `account` above a slot."""
    found = await session.execute(_CHANGES, {"account": account, "after_slot": after_slot})
    return [
        Booked(table=row.source, row=row.subject, signature=row.signature, change_micro_usdc=row.change)
        for row in found
    ]


async def _whole(
    session: AsyncSession, parts: Sequence[RowMapping], markers: MarkerAddresses
) -> Sequence[BookedPart]:
    """`parts` with their items, attempts and transfers."""
    part_ids = [row["id"] for row in parts]
    items = (await session.execute(_ITEMS, {"part_ids": part_ids})).mappings().all()
    ledger = await _ledger_of(session, [row["id"] for row in items])
    by_part: dict[UUID, list[BookedItem]] = defaultdict(list)
    for row in items:
        facts = {name: value for name, value in row.items() if name != "part_id"}
        by_part[row["part_id"]].append(BookedItem(**facts, ledger=ledger.get(row["id"], {})))
    attempts: dict[UUID, list[RowMapping]] = defaultdict(list)
    for row in (await session.execute(_ATTEMPTS, {"part_ids": part_ids})).mappings():
        attempts[row["part_id"]].append(row)
    successors = set(
        await session.scalars(_SUCCESSORS, {"part_ids": [successor_of(part_id) for part_id in part_ids]})
    )
    return [
        _part(
            row,
            by_part[row["id"]],
            attempts[row["id"]],
            markers,
            has_successor=successor_of(row["id"]) in successors,
        )
        for row in parts
    ]


def _part(
    row: RowMapping,
    items: Sequence[BookedItem],
    attempts: Sequence[RowMapping],
    markers: MarkerAddresses,
    *,
    has_successor: bool,
) -> BookedPart:
    facts = {name: value for name, value in row.items() if name != "generation"}
    expected = markers.of(row["id"], row["generation"])
    return BookedPart(
        **facts,
        expected_marker=expected,
        has_successor=has_successor,
        items=items,
        attempts=[
            read_attempt(
                attempt_id=one["id"],
                number=one["number"],
                signature=one["signature"],
                state=one["state"],
                raw=bytes(one["raw_transaction"]),
                treasury_account=markers.treasury_account,
                markers={address for address in (row["marker"], expected) if address is not None},
            )
            for one in attempts
        ],
    )


async def _ledger_of(
    session: AsyncSession, item_ids: Sequence[UUID]
) -> Mapping[UUID, Mapping[str, LedgerLine]]:
    by_key = {f"payout:{item_id}:{word}": (item_id, word) for item_id in item_ids for word in _WORDS}
    lines: dict[UUID, dict[str, LedgerLine]] = defaultdict(dict)
    for row in await session.execute(_TRANSFERS, {"keys": list(by_key)}):
        item_id, word = by_key[row.key]
        lines[item_id][word] = LedgerLine(
            code=TransferCode(row.code), amount_nano_usd=row.amount, owner_id=row.owner_id
        )
    return lines
