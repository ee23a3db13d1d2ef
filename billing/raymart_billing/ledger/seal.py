"""Seals over transfers (`raymart_billing.seals.chain`, where the reasons are).

What is sealed of a transfer is every column of it, and kind, owner and asset of both of its accounts.
"""

from pathlib import Path

from raymart_billing.connections import Connection
from raymart_billing.ledger.refusals import LedgerBroken
from raymart_billing.seals import chain
from raymart_billing.seals.chain import SEALS_PER_BATCH, Sealed, SealedLog

# Everything as text made by the database, so that what is sealed and what is checked are the same bytes. Times are whole
# microseconds: independent of the session's zone, and "Infinity" has a text too.
SEALED_COLUMNS = """
    t.id::text, t.key, t.debit_account_id::text, t.credit_account_id::text, t.amount::text, t.code, t.state,
    t.pending_id::text, (extract(epoch from t.expires_at) * 1000000)::text, t.actor_id::text,
    (extract(epoch from t.created_at) * 1000000)::text, t.xact_id::text, t.reverses_id::text, t.reason,
    d.kind, d.owner_id::text, d.asset, c.kind, c.owner_id::text, c.asset
"""
SEALED_ACCOUNTS = """
    left join ledger_account d on d.id = t.debit_account_id
    left join ledger_account c on c.id = t.credit_account_id
"""
_SETTLED = f"""
    select {SEALED_COLUMNS}
      from (
        select * from transfer
         where (xact_id, id) > (%s, %s) and xact_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
         order by xact_id, id
         limit {SEALS_PER_BATCH}
      ) t
      {SEALED_ACCOUNTS}
     order by t.xact_id, t.id
""".encode()  # noqa: S608 - constants of this module

TRANSFERS = SealedLog(
    noun="transfer",
    event="ledger.sealed",
    format=b"raymart-transfer-seal/1\n",
    head=b"""
        select s.position, s.hash, s.transfer_id, t.xact_id
          from transfer_seal s left join transfer t on t.id = s.transfer_id
         order by s.position desc limit 1
    """,
    at=b"select hash from transfer_seal where position = %s",
    settled=_SETTLED,
    append=b"select ledger_seal(%s, %s::bigint[], %s::bytea[])",
    xact_column=11,
    broken=LedgerBroken,
)


async def seal(
    connection: Connection, *, key: bytes, head_file: Path | None, limit_s: float = 30.0
) -> Sealed:
    """Seal the transfers that are settled, as `seals.chain.seal` does. Raises: LedgerBroken."""
    return await chain.seal(connection, TRANSFERS, key=key, head_file=head_file, limit_s=limit_s)
