"""The chain of seals against the transfers: which row was changed, removed, or written behind it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from raymart_billing.connections import Connection
from raymart_billing.ledger.head import Head
from raymart_billing.ledger.seal import SEALED_ACCOUNTS, SEALED_COLUMNS, Columns, link

_ROWS_PER_FETCH = 2_000
_STREAM = f"""
    select s.position, s.transfer_id, s.hash, {SEALED_COLUMNS}
      from transfer_seal s
      left join transfer t on t.id = s.transfer_id
      {SEALED_ACCOUNTS}
     order by s.position
""".encode()  # noqa: S608 - constants of this package
_UNSEALED = b"""
    select t.id, (t.xact_id, t.id) < (last.xact_id, last.id) as is_behind
      from transfer t
      cross join (
        select coalesce(max(t.xact_id), 0) as xact_id, coalesce(max(t.id), 0) as id
          from (select transfer_id from transfer_seal order by position desc limit 1) s
          join transfer t on t.id = s.transfer_id
      ) last
     where not exists (select from transfer_seal s where s.transfer_id = t.id)
     order by is_behind desc, t.xact_id, t.id
"""


@dataclass(slots=True, kw_only=True)
class Chain:
    """How far the chain reaches; filled while it is read."""

    sealed: int = 0
    """Transfers with a seal."""
    unsealed: int = 0
    """Settled or running ones that wait for theirs."""
    head: Head | None = None
    are_hashes_checked: bool = False


@dataclass(slots=True)
class _Link:
    """The last seal: what it says, and what it should say after its transfer."""

    position: int
    transfer_id: int
    stored: bytes
    computed: bytes | None
    """None where nothing could be computed: no key, no transfer, or no link before."""
    order: tuple[int, int]
    is_suspect: bool = False
    """Its hash did not fit. The next link tells whether the transfer was changed or the seal."""


async def chain_findings(
    connection: Connection, chain: Chain, *, key: bytes | None, head: Head | None
) -> AsyncIterator[str]:
    """Name each bad row, by position. Streams by a server-side cursor."""
    chain.are_hashes_checked = key is not None
    last = _Link(0, 0, bytes(32), bytes(32), (0, 0))
    async with connection.cursor("ledger_verify_chain") as cursor:
        cursor.itersize = _ROWS_PER_FETCH
        await cursor.execute(_STREAM)
        async for position, transfer_id, stored, *columns in cursor:
            seen = _Link(position, transfer_id, bytes(stored), None, last.order)
            for found in _judged(last, seen, columns, key):
                yield found
            if head is not None and position == head.position and seen.stored != head.hash:
                yield f"seal at position {position} (transfer {transfer_id}) is not the one that the head outside names"
            chain.sealed += 1
            last = seen
    if last.is_suspect:
        yield f"{_named(last)} or its seal was changed after it was sealed"
    if last.position:
        chain.head = Head(position=last.position, hash=last.stored)
    if head is not None and head.position > last.position:
        yield (
            f"seals {last.position + 1} to {head.position} are gone: "
            f"the chain ends at position {last.position}, the head outside names {head.position}"
        )
    async for found in _unsealed_findings(connection, chain):
        yield found


def _judged(last: _Link, seen: _Link, columns: Columns, key: bytes | None) -> Sequence[str]:
    """What is wrong between two neighbours; completes `seen`."""
    found = []
    is_next = seen.position == last.position + 1
    if not is_next:
        found.append(f"seals {last.position + 1} to {seen.position - 1} are gone")
    if columns[0] is None:
        found.append(f"{_named(seen)} is gone")
        seen.order = last.order
        # A suspect before it can no longer be told apart.
        return [*_suspicion(last, is_seal_changed=False), *found]
    seen.order = (int(columns[11] or 0), seen.transfer_id)
    if seen.order <= last.order:
        found.append(f"{_named(seen)} is out of order: its transaction or number was changed")
    if key is None or not is_next:
        return [*_suspicion(last, is_seal_changed=False), *found]
    seen.computed = link(key, last.stored, columns)
    if seen.computed == seen.stored:
        return [*_suspicion(last, is_seal_changed=False), *found]
    if last.is_suspect and last.computed is not None and link(key, last.computed, columns) == seen.stored:
        seen.computed = seen.stored
        return [*_suspicion(last, is_seal_changed=True), *found]
    seen.is_suspect = True
    return [*_suspicion(last, is_seal_changed=False), *found]


def _suspicion(last: _Link, *, is_seal_changed: bool) -> Sequence[str]:
    """The word on `last`, now that the link after it is known."""
    if not last.is_suspect:
        return []
    if is_seal_changed:
        return [f"seal at position {last.position} (transfer {last.transfer_id}) was changed"]
    return [f"{_named(last)} or one of its accounts was changed after it was sealed"]


def _named(seal: _Link) -> str:
    return f"transfer {seal.transfer_id} (sealed at position {seal.position})"


async def _unsealed_findings(connection: Connection, chain: Chain) -> AsyncIterator[str]:
    async with connection.cursor("ledger_verify_unsealed") as cursor:
        cursor.itersize = _ROWS_PER_FETCH
        await cursor.execute(_UNSEALED)
        async for transfer_id, is_behind in cursor:
            if is_behind:
                yield f"transfer {transfer_id} was written behind the chain: it is older than the last seal and has none"
            else:
                chain.unsealed += 1
