"""The chain of seals against the transfers: which row was changed, removed, or written behind it."""

from collections.abc import AsyncIterator

from raymart_billing.connections import Connection
from raymart_billing.ledger.seal import SEALED_ACCOUNTS, SEALED_COLUMNS, TRANSFERS
from raymart_billing.seals.checking import Chain, Reader, unsealed_findings
from raymart_billing.seals.head import Head

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


async def chain_findings(
    connection: Connection, chain: Chain, *, key: bytes | None, head: Head | None
) -> AsyncIterator[str]:
    """Name each bad row, by position. Streams by a server-side cursor."""
    reader = Reader(TRANSFERS, chain, key=key, head=head)
    async with connection.cursor("ledger_verify_chain") as cursor:
        cursor.itersize = _ROWS_PER_FETCH
        await cursor.execute(_STREAM)
        async for position, transfer_id, stored, *columns in cursor:
            for found in reader.see(position, transfer_id, stored, columns):
                yield found
    for found in reader.end():
        yield found
    async for found in unsealed_findings(connection, TRANSFERS, _UNSEALED, chain):
        yield found
