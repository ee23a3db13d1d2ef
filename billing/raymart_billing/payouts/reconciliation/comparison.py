"""One reconciliation: reads our rows, then the chain, then what is new in our rows, and compares. Writes nothing."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.reconciliation.books import (
    cash_on_chain_nano_usd,
    compare_books,
    compare_mirror,
)
from raymart_billing.payouts.reconciliation.chain_reading import ChainReader, ChainReading
from raymart_billing.payouts.reconciliation.compare_parts import compare_part
from raymart_billing.payouts.reconciliation.compare_treasury import PartsOfTransactions, compare_treasury
from raymart_billing.payouts.reconciliation.differences import Difference
from raymart_billing.payouts.reconciliation.facts import Booked, BookedPart, Treasury, TreasuryTransaction
from raymart_billing.payouts.reconciliation.rows import (
    PARTS_PER_READ,
    begin_snapshot,
    booked_changes,
    parts_of,
    parts_since,
)
from raymart_billing.payouts.reconciliation.signed_bytes import MarkerAddresses
from raymart_marketplace.db.session import Sessions, session_scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Where an earlier run ended."""

    run_id: UUID
    slot: int
    balance_micro_usdc: int
    began_at: datetime
    """All that was final by then was looked at by that run."""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What was looked at, and what does not agree."""

    slot: int
    opening_micro_usdc: int
    balance_micro_usdc: int
    lamports: int
    fees_lamports: int
    parts: int
    transactions: int
    differences: Sequence[Difference]


@dataclass(slots=True)
class _Rows:
    """Our rows at one moment."""

    at: datetime
    parts: list[BookedPart] = field(default_factory=list)
    booked: Sequence[Booked] = ()
    cash_nano_usd: int = 0
    differences: Sequence[Difference] = ()


class Comparer:
    """Compares the rows of `sessions` with what `reader` reads."""

    def __init__(self, sessions: Sessions, reader: ChainReader, markers: MarkerAddresses) -> None:
        self._sessions = sessions
        self._reader = reader
        self._markers = markers

    async def compare(self, opening: Opening | None) -> Comparison:
        """Everything since `opening`, or everything. Raises: RpcError, and then nothing is known.

        The order is the proof: what our rows called final when they were read must be on the chain that is read after
        them, and what left the chain must be in rows that are read after it.
        """
        after_slot = -1 if opening is None else opening.slot
        rows = await self._rows(since=None if opening is None else opening.began_at, after_slot=after_slot)
        standing, differences = await self._reader.standing(_markers_of(rows.parts))
        reading = await self._reader.read(after_slot=after_slot)
        late = await self._late(rows, reading)
        if late:
            more, disputed = await self._reader.standing(_markers_of(late))
            standing, differences = standing | more, [*differences, *disputed]
        parts = [*rows.parts, *late]
        landings, stray = await self._landings(parts, reading)
        found = [*rows.differences, *differences, *reading.differences, *stray]
        for part in parts:
            found += compare_part(part, landings[part.id], has_marker=part.marker in standing, now=rows.at)
        found += self._of_treasury(rows, reading, landings, opening)
        return Comparison(
            slot=reading.slot,
            opening_micro_usdc=0 if opening is None else opening.balance_micro_usdc,
            balance_micro_usdc=reading.balance_micro_usdc,
            lamports=await self._reader.lamports_of(self._markers.treasury),
            fees_lamports=sum(one.fee_lamports for one in reading.history if one.change_micro_usdc <= 0),
            parts=len(parts),
            transactions=len(reading.history),
            differences=list(dict.fromkeys(found)),
        )

    async def _rows(self, *, since: datetime | None, after_slot: int) -> _Rows:
        async with session_scope(self._sessions) as session:
            await begin_snapshot(session)
            rows = _Rows(at=await _now(session))
            after = UUID(int=0)
            while True:
                page = await parts_since(session, since=since, after=after, markers=self._markers)
                rows.parts += page
                if len(page) < PARTS_PER_READ:
                    break
                after = page[-1].id
            rows.booked = await booked_changes(
                session, account=self._markers.treasury_account, after_slot=after_slot
            )
            rows.cash_nano_usd = await cash_on_chain_nano_usd(session)
            rows.differences = await compare_books(session)
        return rows

    async def _late(self, rows: _Rows, reading: ChainReading) -> Sequence[BookedPart]:
        """Parts that explain transactions which those of `rows` do not: signed since, or finalized long ago."""
        known = PartsOfTransactions.of(rows.parts)
        unknown = [one for one in reading.history if one.change_micro_usdc < 0 and known.part_of(one) is None]
        if not unknown:
            return []
        async with session_scope(self._sessions) as session:
            await begin_snapshot(session)
            found = await parts_of(
                session,
                signatures=[one.signature for one in unknown],
                accounts=sorted(set().union(*(one.accounts for one in unknown))),
                markers=self._markers,
            )
        had = {part.id for part in rows.parts}
        return [part for part in found if part.id not in had]

    async def _landings(
        self, parts: Sequence[BookedPart], reading: ChainReading
    ) -> tuple[dict[UUID, list[TreasuryTransaction]], Sequence[Difference]]:
        """The transactions of each part, those too that are older than what was read; and disputed ones."""
        index = PartsOfTransactions.of(parts)
        landings: dict[UUID, list[TreasuryTransaction]] = defaultdict(list)
        for transaction in reading.history:
            part = index.part_of(transaction)
            if part is not None and not transaction.is_failed and transaction.change_micro_usdc:
                landings[part.id].append(transaction)
        stray: list[Difference] = []
        for part in parts:
            if part.is_finalized and not landings[part.id]:
                found = await self._direct(part)
                landings[part.id] += [one for one in found if isinstance(one, TreasuryTransaction)]
                stray += [one for one in found if isinstance(one, Difference)]
        return landings, stray

    async def _direct(self, part: BookedPart) -> Sequence[TreasuryTransaction | Difference]:
        """Ask for the transaction that our row names, then for those that name the marker."""
        signatures = [part.signature] if part.signature is not None else []
        if part.marker is not None:
            signatures += await self._reader.signatures_of(part.marker)
        found = await self._reader.transactions(list(dict.fromkeys(signatures)))
        return [
            one
            for one in found
            if isinstance(one, Difference)
            or (one is not None and not one.is_failed and one.change_micro_usdc < 0)
        ]

    def _of_treasury(
        self,
        rows: _Rows,
        reading: ChainReading,
        landings: dict[UUID, list[TreasuryTransaction]],
        opening: Opening | None,
    ) -> Sequence[Difference]:
        payments = {one.signature for found in landings.values() for one in found}
        treasury = Treasury(
            opening_micro_usdc=0 if opening is None else opening.balance_micro_usdc,
            history=reading.history,
            balance_micro_usdc=reading.balance_micro_usdc,
        )
        settled = {one.signature for part in rows.parts if part.is_finalized for one in landings[part.id]} | {
            row.signature for row in rows.booked
        }
        unbooked = sum(one.change_micro_usdc for one in reading.history if one.signature not in settled)
        return [
            *compare_treasury(treasury, payments=payments, booked=rows.booked, now=rows.at),
            *compare_mirror(
                ledger_nano_usd=rows.cash_nano_usd,
                balance_micro_usdc=reading.balance_micro_usdc,
                unbooked_micro_usdc=unbooked,
            ),
        ]


def _markers_of(parts: Sequence[BookedPart]) -> Collection[str]:
    return {part.marker for part in parts if part.marker is not None}


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now
