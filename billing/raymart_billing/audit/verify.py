"""The seals against the audit log: which entry was changed, removed, or written behind the chain."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from raymart_billing.audit.seal import SEALED_COLUMNS, link
from raymart_billing.connections import Connection
from raymart_billing.ledger.head import Head
from raymart_billing.ledger.seal import Columns

FINDINGS_MAX = 100
"""How many findings are named; one is enough to know."""
_ROWS_PER_FETCH = 2_000
_STREAM = f"""
    select s.position, s.entry_id, s.hash,
           e.origin_digest is null or o.entry_id is null or audit_digest(o.salt, o.address, o.user_agent) = e.origin_digest,
           e.origin_digest is not null and o.entry_id is null,
           {SEALED_COLUMNS}
      from audit_seal s
      left join audit_entry e on e.id = s.entry_id
      left join audit_origin o on o.entry_id = e.id
     order by s.position
""".encode()  # noqa: S608 - constants of this package
_UNSEALED = b"""
    select e.id, (e.xact_id, e.id) < (last.xact_id, last.id) as is_behind
      from audit_entry e
      cross join (
        select coalesce(max(e.xact_id), 0) as xact_id, coalesce(max(e.id), 0) as id
          from (select entry_id from audit_seal order by position desc limit 1) s
          join audit_entry e on e.id = s.entry_id
      ) last
     where not exists (select from audit_seal s where s.entry_id = e.id)
     order by is_behind desc, e.xact_id, e.id
"""


@dataclass(slots=True, kw_only=True)
class AuditVerification:
    """What a verification saw and found; filled while it reads."""

    sealed: int = 0
    unsealed: int = 0
    """Entries that wait for their seal: those of the last seconds."""
    origins_forgotten: int = 0
    """Entries whose address was erased; the digest of it is still sealed."""
    head: Head | None = None
    """The newest seal."""
    are_hashes_checked: bool = False
    findings: list[str] = field(default_factory=list)
    """Each names one bad row; the first is the first bad row. At most 100."""


@dataclass(slots=True)
class _Link:
    """A seal: what it says, and what it should say after its entry."""

    position: int
    entry_id: int
    stored: bytes
    computed: bytes | None = None
    """None where nothing could be computed: no key, no entry, or no link before."""
    order: tuple[int, int] = (0, 0)
    is_suspect: bool = False
    """Its hash did not fit. The next link tells whether the entry was changed or the seal."""

    def __str__(self) -> str:
        return f"entry {self.entry_id} (sealed at position {self.position})"


async def verify(connection: Connection, *, key: bytes | None, head: Head | None) -> AuditVerification:
    """Check every entry; without `key` hashes are not recomputed, without `head` a cut end cannot show.

    One REPEATABLE READ transaction, by server-side cursors: bounded memory, no locks, beside full traffic.
    """
    assert connection.autocommit, "verify opens its own transaction"
    seen = AuditVerification(are_hashes_checked=key is not None)
    async with connection.transaction():
        await connection.execute("set transaction isolation level repeatable read, read only")
        async for found in _findings(connection, seen, key=key, head=head):
            seen.findings.append(found)
            if len(seen.findings) == FINDINGS_MAX:
                break
    return seen


async def _findings(
    connection: Connection, seen: AuditVerification, *, key: bytes | None, head: Head | None
) -> AsyncIterator[str]:
    last = _Link(0, 0, bytes(32), bytes(32))
    async with connection.cursor("audit_verify_chain") as cursor:
        cursor.itersize = _ROWS_PER_FETCH
        await cursor.execute(_STREAM)
        async for position, entry_id, stored, has_true_origin, is_forgotten, *columns in cursor:
            current = _Link(position, entry_id, bytes(stored), order=last.order)
            for found in _judged(last, current, columns, key):
                yield found
            if not has_true_origin:
                yield f"the address of {current} was changed"
            if head is not None and position == head.position and current.stored != head.hash:
                yield f"the seal of {current} is not the one that the head outside names"
            seen.sealed += 1
            seen.origins_forgotten += is_forgotten
            last = current
    if last.is_suspect:
        yield f"{last} or its seal was changed after it was sealed"
    if last.position:
        seen.head = Head(position=last.position, hash=last.stored)
    if head is not None and head.position > last.position:
        yield (
            f"seals {last.position + 1} to {head.position} are gone: "
            f"the chain ends at position {last.position}, the head outside names {head.position}"
        )
    async for found in _unsealed(connection, seen):
        yield found


def _judged(last: _Link, current: _Link, columns: Columns, key: bytes | None) -> Sequence[str]:
    """What is wrong between two neighbours, the earlier one's part first; completes `current`."""
    found = []
    is_next = current.position == last.position + 1
    if not is_next:
        found.append(f"seals {last.position + 1} to {current.position - 1} are gone")
    if columns[0] is None:
        # With it goes what would tell whether a suspect before it was changed or its seal.
        return [*_verdict(last, is_seal_changed=False), *found, f"{current} is gone"]
    current.order = (int(columns[1] or 0), current.entry_id)
    if current.order <= last.order:
        found.append(f"{current} is out of order: its transaction or number was changed")
    is_seal_changed = False
    if key is not None and is_next:
        current.computed = link(key, last.stored, columns)
        if current.computed != current.stored:
            is_seal_changed = (
                last.is_suspect
                and last.computed is not None
                and link(key, last.computed, columns) == current.stored
            )
            current.is_suspect = not is_seal_changed
    return [*_verdict(last, is_seal_changed=is_seal_changed), *found]


def _verdict(last: _Link, *, is_seal_changed: bool) -> Sequence[str]:
    """The word on `last`, now that the link after it is known."""
    if not last.is_suspect:
        return []
    if is_seal_changed:
        return [f"the seal at position {last.position} (entry {last.entry_id}) was changed"]
    return [f"{last} was changed after it was sealed"]


async def _unsealed(connection: Connection, seen: AuditVerification) -> AsyncIterator[str]:
    async with connection.cursor("audit_verify_unsealed") as cursor:
        cursor.itersize = _ROWS_PER_FETCH
        await cursor.execute(_UNSEALED)
        async for entry_id, is_behind in cursor:
            if is_behind:
                yield f"entry {entry_id} was written behind the chain: it is older than the last seal and has none"
            else:
                seen.unsealed += 1
