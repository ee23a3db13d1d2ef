"""Rows of payouts and the chain that fits them, as values, for the pure comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from raymart_billing.ledger.models import TransferCode
from raymart_billing.payouts.reconciliation.facts import (
    NANO_USD_PER_MICRO_USDC,
    BookedAttempt,
    BookedItem,
    BookedPart,
    LedgerLine,
    Purpose,
    Received,
    TreasuryTransaction,
)

NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=5)
_CODES = {
    "sent": TransferCode.PAYOUT_SENT,
    "settled": TransferCode.PAYOUT_SETTLED,
    "returned": TransferCode.PAYOUT_RETURNED,
}


def transfers(provider_id: UUID, amount_micro_usdc: int, *names: str) -> Mapping[str, LedgerLine]:
    """The item's transfers of these names, as they should be."""
    amount = amount_micro_usdc * NANO_USD_PER_MICRO_USDC
    return {
        name: LedgerLine(code=_CODES[name], amount_nano_usd=amount, owner_id=provider_id) for name in names
    }


def paid_part(amounts: Sequence[int], *, number: int = 1) -> BookedPart:
    """A finalized part that pays `amounts` (micro-USDC), one payee each; all its rows agree."""
    items = []
    for position, amount in enumerate(amounts):
        provider_id = uuid4()
        items.append(
            BookedItem(
                id=uuid4(),
                provider_id=provider_id,
                wallet=f"wallet-{number}-{position}",
                token_account=f"account-{number}-{position}",
                amount_micro_usdc=amount,
                state="paid",
                ledger=transfers(provider_id, amount, "sent", "settled"),
            )
        )
    attempts = [
        BookedAttempt(
            id=uuid4(),
            number=1,
            signature=f"lost-{number}",
            state="expired",
            purpose=Purpose.PAY,
            are_bytes_sound=True,
        ),
        BookedAttempt(
            id=uuid4(),
            number=2,
            signature=f"paid-{number}",
            state="landed",
            purpose=Purpose.PAY,
            are_bytes_sound=True,
        ),
    ]
    return BookedPart(
        id=uuid4(),
        batch_number=number,
        position=0,
        state="finalized",
        total_micro_usdc=sum(amounts),
        marker=f"marker-{number}",
        expected_marker=f"marker-{number}",
        is_marker_reclaimed=False,
        signature=f"paid-{number}",
        slot=100 + number,
        fee_lamports=5_000,
        has_successor=False,
        items=items,
        attempts=attempts,
    )


def landing_of(part: BookedPart, *, at: datetime | None = LONG_AGO) -> TreasuryTransaction:
    """The transaction that pays `part` to the last unit."""
    assert part.signature is not None
    assert part.marker is not None
    assert part.slot is not None
    return TreasuryTransaction(
        signature=part.signature,
        slot=part.slot,
        at=at,
        fee_lamports=5_000,
        is_failed=False,
        change_micro_usdc=-sum(item.amount_micro_usdc for item in part.payees),
        received={
            item.token_account: Received(owner=item.wallet, amount_micro_usdc=item.amount_micro_usdc)
            for item in part.payees
        },
        accounts=frozenset({part.marker, "treasury", *(item.token_account for item in part.payees)}),
    )


def unsent(part: BookedPart) -> BookedPart:
    """`part` as it was before its transaction was seen at finalized."""
    items = [
        replace(
            item, state="planned", ledger={name: line for name, line in item.ledger.items() if name == "sent"}
        )
        for item in part.items
    ]
    attempts = [
        replace(attempt, state="live" if attempt.state == "landed" else attempt.state)
        for attempt in part.attempts
    ]
    return replace(
        part,
        state="submitted",
        signature=None,
        slot=None,
        fee_lamports=None,
        items=items,
        attempts=attempts,
    )
