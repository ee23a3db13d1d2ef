"""The treasury's token account against our rows: each change of its balance has a row, and each row a change. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from raymart_billing.payouts.reconciliation.compare_parts import is_young
from raymart_billing.payouts.reconciliation.differences import Difference, DifferenceKind
from raymart_billing.payouts.reconciliation.facts import Booked, BookedPart, Treasury, TreasuryTransaction


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsOfTransactions:
    """Which transaction is whose, and which part's it may be."""

    by_signature: Mapping[str, BookedPart]
    by_marker: Mapping[str, BookedPart]

    @classmethod
    def of(cls, parts: Sequence[BookedPart]) -> "PartsOfTransactions":
        """An index of `parts`: by what they signed, what they say paid them, and their markers, old and recomputed."""
        by_signature = {attempt.signature: part for part in parts for attempt in part.attempts}
        by_signature |= {part.signature: part for part in parts if part.signature is not None}
        markers = {marker: part for part in parts for marker in (part.marker, part.expected_marker) if marker}
        return cls(by_signature=by_signature, by_marker=markers)

    def part_of(self, transaction: TreasuryTransaction) -> BookedPart | None:
        """The part that `transaction` pays. A marker is better evidence than a row: it is on chain."""
        for account in transaction.accounts & self.by_marker.keys():
            return self.by_marker[account]
        return self.by_signature.get(transaction.signature)


def compare_treasury(
    treasury: Treasury, *, payments: Collection[str], booked: Sequence[Booked], now: datetime
) -> Iterator[Difference]:
    """Each change of the balance against rows, each of `booked` against the chain, and the balance against their sum.

    `payments`: signatures of transactions that are a part's. `booked`: deposits and recorded withdrawals, all of them that
    the time looked at can hold.
    """
    rows = {row.signature: row for row in booked}
    for transaction in treasury.history:
        if transaction.change_micro_usdc and transaction.signature not in payments:
            yield from _explained(transaction, rows.get(transaction.signature), now=now)
    changes = {transaction.signature for transaction in treasury.history if transaction.change_micro_usdc}
    for row in booked:
        if row.signature not in changes:
            yield Difference(
                kind=DifferenceKind.NOT_ON_CHAIN,
                table=row.table,
                row=row.row,
                expected=f"{row.change_micro_usdc:+d} by {row.signature}",
                found="no such finalized transaction of the treasury",
            )
    yield from _balance(treasury)


def _explained(
    transaction: TreasuryTransaction, row: Booked | None, *, now: datetime
) -> Iterator[Difference]:
    change = transaction.change_micro_usdc
    if row is not None:
        if row.change_micro_usdc != change:
            yield Difference(
                kind=DifferenceKind.NOT_ON_CHAIN,
                table=row.table,
                row=row.row,
                expected=f"{change:+d}",
                found=f"{row.change_micro_usdc:+d}",
            )
        return
    # What comes in waits for the scanner; what goes out was in our rows before it was sent.
    if change > 0 and is_young(transaction, now):
        return
    yield Difference(
        kind=DifferenceKind.UNEXPLAINED_RECEIPT if change > 0 else DifferenceKind.UNEXPLAINED_PAYMENT,
        table="treasury",
        row=transaction.signature,
        expected="a payout, a deposit or a recorded withdrawal",
        found=f"{change:+d} micro-USDC in slot {transaction.slot}",
    )


def _balance(treasury: Treasury) -> Iterator[Difference]:
    changed = sum(transaction.change_micro_usdc for transaction in treasury.history)
    apart = treasury.balance_micro_usdc - treasury.opening_micro_usdc - changed
    if apart:
        # As a distance, which stays the same from night to night.
        yield Difference(
            kind=DifferenceKind.TREASURY_BALANCE,
            table="treasury",
            row="balance",
            expected="the opening balance and all changes since",
            found=f"{apart:+d} micro-USDC",
        )
