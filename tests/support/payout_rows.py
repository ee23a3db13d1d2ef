"""Rows of payouts written straight into the tables, as planning and sending leave them. Only the database's owner can."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from raymart_core.ids import new_id

MINT = str(Keypair().pubkey())


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidRow:
    """One epoch's payment of a provider."""

    item_id: UUID
    batch_id: UUID
    part_id: UUID
    epoch_id: UUID
    signature: str


class PayoutRows:
    """Writes with the triggers off, one transaction each."""

    def __init__(self, owner_url: str) -> None:
        self._owner_url = owner_url

    def epoch(self, *, weeks_ago: int = 1) -> UUID:
        """An epoch of a minute of its own: they must not overlap, and tests share a database."""
        epoch_id = new_id()
        with psycopg.connect(self._owner_url) as owner:
            [(newest,)] = owner.execute("select max(ends_at) from epoch").fetchall()
            begin = newest or datetime.now(UTC) - timedelta(weeks=weeks_ago)
            self._insert(
                owner,
                "epoch",
                id=epoch_id,
                number=owner.execute("select coalesce(max(number), 0) + 1 from epoch").fetchall()[0][0],
                starts_at=begin,
                ends_at=begin + timedelta(seconds=1),
                closed_at=begin + timedelta(seconds=2),
            )
        return epoch_id

    def earning(self, provider_id: UUID, epoch_id: UUID, **columns: Any) -> UUID:
        """What the provider earned in the epoch; amounts in nano-USD."""
        earning_id = new_id()
        values = {
            "after_transfer_id": 0,
            "upto_transfer_id": 1,
            "gross_nano_usd": 0,
            "clawback_nano_usd": 0,
            "holdback_nano_usd": 0,
        } | columns
        if values["holdback_nano_usd"]:
            values.setdefault("matures_at", datetime.now(UTC) + timedelta(days=7))
        with psycopg.connect(self._owner_url) as owner:
            self._insert(
                owner, "earning", id=earning_id, epoch_id=epoch_id, provider_id=provider_id, **values
            )
        return earning_id

    def payment(
        self,
        provider_id: UUID,
        epoch_id: UUID,
        *,
        micro_usdc: int,
        wallet: str,
        item: str = "paid",
        batch: str = "finalized",
        part: str | None = "finalized",
        reason: str | None = None,
    ) -> PaidRow:
        """A batch of one payee, in these states."""
        now = datetime.now(UTC)
        made = PaidRow(
            item_id=new_id(),
            batch_id=new_id(),
            part_id=new_id(),
            epoch_id=epoch_id,
            signature=str(Signature.new_unique()),
        )
        approved = batch in {"approved", "sending", "finalized"}
        with psycopg.connect(self._owner_url) as owner:
            self._insert(
                owner,
                "payout_batch",
                id=made.batch_id,
                kind="earnings",
                epoch_id=epoch_id,
                mint=MINT,
                state=batch,
                total_micro_usdc=micro_usdc,
                payees=1,
                hold_reason="looked at" if batch == "held" else None,
                approved_at=now if approved else None,
                finished_at=now if batch in {"finalized", "cancelled"} else None,
            )
            if part is not None:
                self._insert(
                    owner,
                    "payout_part",
                    id=made.part_id,
                    batch_id=made.batch_id,
                    position=0,
                    state=part,
                    total_micro_usdc=micro_usdc,
                    signature=made.signature if part == "finalized" else None,
                    finalized_at=now if part == "finalized" else None,
                )
            self._insert(
                owner,
                "payout_item",
                id=made.item_id,
                batch_id=made.batch_id,
                part_id=None if part is None else made.part_id,
                position=0,
                provider_id=provider_id,
                epoch_id=epoch_id,
                wallet=wallet,
                token_account=str(Pubkey.new_unique()),
                amount_micro_usdc=micro_usdc,
                state=item,
                reason=reason,
            )
        return made

    def change(self, table: str, row_id: UUID, **columns: Any) -> None:
        """Set columns of a row."""
        changes = ", ".join(f"{name} = %({name})s" for name in columns)
        with psycopg.connect(self._owner_url) as owner:
            owner.execute("set local session_replication_role = replica")
            owner.execute(f"update {table} set {changes} where id = %(row)s", {"row": row_id, **columns})

    def _insert(self, owner: psycopg.Connection, table: str, **columns: Any) -> None:
        owner.execute("set local session_replication_role = replica")
        names, values = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
        owner.execute(f"insert into {table} ({names}) values ({values})", columns)
