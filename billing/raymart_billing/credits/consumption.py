"""What a balance is made of: granted credit and money that was paid, as a pure function of the ledger's history.

Granted credit is used before paid money, and of several grants the one that ends first; at equal ends, and among those
without an end, the older one. Money that goes back out or is taken by a bank is paid money first. What comes in is paid
money unless it is a grant.

    fold(history) = step(step(step(EMPTY, first), second), ...)

A prefix that was folded once need not be read again: `Parts` is all that the rest depends on.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from raymart_billing.ledger import TransferCode

NEVER = datetime.max.replace(tzinfo=UTC)
PAID_FIRST = frozenset({
    TransferCode.DEPOSIT_REFUND, TransferCode.DEPOSIT_WITHDRAWN, TransferCode.DISPUTE_OPENED,
    TransferCode.RECEIVABLE_SETTLED, TransferCode.REVERSAL,
})  # fmt: skip
"""Debits that are about paid money; granted credit is touched only when no other is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One posted transfer of a customer's balance, as consumption sees it."""

    transfer_id: int
    """Orders the entries of one account."""
    code: TransferCode
    change: int
    """Nano-USD, above zero for what came in."""
    expires_at: datetime | None = None
    """Of a grant; None for never and for all else."""
    reverses_id: int | None = None
    """Of a reversal: the transfer it undoes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantPart:
    """What is left of one grant, above zero."""

    transfer_id: int
    expires_at: datetime | None
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A balance by what it is made of, in nano-USD: `paid` and what is left of each grant, the first to be used first."""

    paid: int = 0
    grants: tuple[GrantPart, ...] = ()

    @property
    def promotional(self) -> int:
        """What is left of all grants."""
        return sum(grant.left for grant in self.grants)

    @property
    def total(self) -> int:
        """The posted balance."""
        return self.paid + self.promotional

    def left_of(self, transfer_id: int) -> int:
        """What is left of one grant; 0 when it is used up."""
        return next((grant.left for grant in self.grants if grant.transfer_id == transfer_id), 0)

    def to_json(self) -> dict[str, Any]:
        """For a column."""
        return {
            "paid": self.paid,
            "grants": [
                [grant.transfer_id, grant.expires_at and grant.expires_at.isoformat(), grant.left]
                for grant in self.grants
            ],
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Parts":
        """What `to_json` made."""
        return cls(
            paid=found["paid"],
            grants=tuple(
                GrantPart(
                    transfer_id=transfer_id, expires_at=until and datetime.fromisoformat(until), left=left
                )
                for transfer_id, until, left in found["grants"]
            ),
        )


EMPTY = Parts()


def fold(history: Iterable[Entry], parts: Parts = EMPTY) -> Parts:
    """`parts` after `history`, which is in the order of the ledger."""
    return reduce(step, history, parts)


def step(parts: Parts, entry: Entry) -> Parts:
    """`parts` after one entry. Programmer error when it takes more than there is: the ledger refuses that."""
    if entry.code is TransferCode.CREDIT_GRANT and entry.change > 0:
        return _granted(parts, entry)
    if entry.change >= 0:
        return replace(parts, paid=parts.paid + entry.change)
    amount = -entry.change
    assert amount <= parts.total, f"transfer {entry.transfer_id} takes {amount} of {parts.total}"
    if entry.reverses_id is not None:
        # A grant that is undone is taken from that grant, as far as it is left.
        parts, amount = _undone(parts, entry.reverses_id, amount)
    if entry.code in PAID_FIRST:
        from_paid = min(amount, parts.paid)
        return _use_grants(replace(parts, paid=parts.paid - from_paid), amount - from_paid)
    from_grants = min(amount, parts.promotional)
    return _use_grants(replace(parts, paid=parts.paid - (amount - from_grants)), from_grants)


def _granted(parts: Parts, entry: Entry) -> Parts:
    made = GrantPart(transfer_id=entry.transfer_id, expires_at=entry.expires_at, left=entry.change)
    ordered = sorted((*parts.grants, made), key=lambda grant: (grant.expires_at or NEVER, grant.transfer_id))
    return replace(parts, grants=tuple(ordered))


def _undone(parts: Parts, transfer_id: int, amount: int) -> tuple[Parts, int]:
    """`parts` without what is left of one grant, and what remains to be taken elsewhere."""
    used = min(amount, parts.left_of(transfer_id))
    kept = (
        replace(grant, left=grant.left - used) if grant.transfer_id == transfer_id else grant
        for grant in parts.grants
    )
    return replace(parts, grants=tuple(grant for grant in kept if grant.left)), amount - used


def _use_grants(parts: Parts, amount: int) -> Parts:
    kept: list[GrantPart] = []
    for grant in parts.grants:
        used = min(amount, grant.left)
        amount -= used
        if used < grant.left:
            kept.append(replace(grant, left=grant.left - used))
    return replace(parts, grants=tuple(kept))
