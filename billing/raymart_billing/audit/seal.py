"""Seals over the audit log (`raymart_billing.seals.chain`, where the reasons are).

The address that an act came from is sealed as its salted digest, so that the address itself can be forgotten.
"""

from pathlib import Path

from raymart_billing.connections import Connection
from raymart_billing.seals import chain
from raymart_billing.seals.chain import SEALS_PER_BATCH, Sealed, SealedLog
from raymart_core.errors import RaymartError

# As text made by the database, times as whole microseconds: what is sealed and what is checked are the same bytes.
SEALED_COLUMNS = """
    e.id::text, e.xact_id::text, (extract(epoch from e.created_at) * 1000000)::text, e.actor_kind, e.actor_id::text,
    e.actor_name, e.acting_organization_id::text, e.organization_id::text, e.session_id::text, e.request_id::text,
    e.action, e.subject_kind, e.subject_id::text, e.mentions::text, e.outcome, e.detail::text,
    encode(e.origin_digest, 'hex')
"""
_SETTLED = f"""
    select {SEALED_COLUMNS}
      from audit_entry e
     where (e.xact_id, e.id) > (%s, %s) and e.xact_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
     order by e.xact_id, e.id
     limit {SEALS_PER_BATCH}
""".encode()  # noqa: S608 - constants of this module


class AuditBroken(RaymartError):
    """The chain is not the one that was sealed."""


ENTRIES = SealedLog(
    noun="entry",
    event="audit.sealed",
    format=b"raymart-audit-seal/1\n",
    head=b"""
        select s.position, s.hash, s.entry_id, e.xact_id
          from audit_seal s left join audit_entry e on e.id = s.entry_id
         order by s.position desc limit 1
    """,
    at=b"select hash from audit_seal where position = %s",
    settled=_SETTLED,
    append=b"select audit_seal_append(%s, %s::bigint[], %s::bytea[])",
    xact_column=1,
    broken=AuditBroken,
)


async def seal(
    connection: Connection, *, key: bytes, head_file: Path | None, limit_s: float = 30.0
) -> Sealed:
    """Seal the entries that are settled, as `seals.chain.seal` does. Raises: AuditBroken."""
    return await chain.seal(connection, ENTRIES, key=key, head_file=head_file, limit_s=limit_s)
