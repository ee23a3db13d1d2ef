"""The seals against the audit log: which entry was changed, removed, or written behind the chain."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from raymart_billing.audit.seal import ENTRIES, SEALED_COLUMNS
from raymart_billing.connections import Connection
from raymart_billing.seals.checking import Chain, Reader, unsealed_findings
from raymart_billing.seals.head import Head

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
class AuditVerification(Chain):
    """What a verification saw and found; filled while it reads."""

    origins_forgotten: int = 0
    """Entries whose address was erased; the digest of it is still sealed."""
    findings: list[str] = field(default_factory=list)
    """Each names one bad row; the first is the first bad row. At most 100."""


async def verify(connection: Connection, *, key: bytes | None, head: Head | None) -> AuditVerification:
    """Check every entry; without `key` hashes are not recomputed, without `head` a cut end cannot show.

    One REPEATABLE READ transaction, by server-side cursors: bounded memory, no locks, beside full traffic.
    """
    assert connection.autocommit, "verify opens its own transaction"
    seen = AuditVerification()
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
    reader = Reader(ENTRIES, seen, key=key, head=head)
    async with connection.cursor("audit_verify_chain") as cursor:
        cursor.itersize = _ROWS_PER_FETCH
        await cursor.execute(_STREAM)
        async for position, entry_id, stored, has_true_origin, is_forgotten, *columns in cursor:
            for found in reader.see(position, entry_id, stored, columns):
                yield found
            if not has_true_origin:
                yield f"the address of entry {entry_id} (sealed at position {position}) was changed"
            seen.origins_forgotten += is_forgotten
    for found in reader.end():
        yield found
    async for found in unsealed_findings(connection, ENTRIES, _UNSEALED, seen):
        yield found
