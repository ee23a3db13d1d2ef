"""The limits of sending."""

from dataclasses import dataclass
from datetime import timedelta

from raymart_billing.payouts.books import MARKER_RETENTION

BLOCKS_VALID = 150
"""How many blocks a blockhash is good for. Source: Solana, MAX_PROCESSING_AGE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingRules:
    """What the engine never exceeds. Every default is meant for mainnet."""

    attempts_max: int = 8
    """Attempts of a part with a marker, until a person looks at it."""
    openings_max: int = 18
    """Attempts of a part that open token accounts: 57 need six, and each may be made three times."""
    openings_per_account_max: int = 1
    """How often we pay for one token account. Who closes it and takes its rent must open it by itself."""
    bump_after_blocks: int = 40
    """An attempt that no endpoint has seen this many blocks after its blockhash gets a sibling with twice its fee."""
    priority_fee_lamports_max: int = 100_000
    """Of one attempt, however often it was raised."""
    signatures_read_max: int = 5_000
    """Of a marker: anybody can name its address in transactions once it is known."""
    lease_s: float = 20.0
    """How long a claimed part is one worker's; a round takes less."""
    pause_s: float = 15.0
    """Between two looks at a part that waits for funds or for a person."""
    parts_max: int = 64
    """Parts of one round."""
    acting_max: int = 16
    """Parts that are signed or settled at once."""
    marker_retention: timedelta = MARKER_RETENTION
    """Older than any backup that might be restored; markers are kept as long, and older batches are not sent."""
    retention_margin: timedelta = timedelta(days=2)
    """A batch is refused this much before its marker could be reclaimed."""
