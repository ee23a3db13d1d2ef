"""What is compared: what our rows say of payouts, and what the chain says. Values only; nothing here reads anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from raymart_billing.ledger.models import TransferCode

NANO_USD_PER_MICRO_USDC = 1_000


class Purpose(StrEnum):
    """What an attempt is for, as its bytes say."""

    PAY = "pay"
    """Makes the marker and moves money."""
    BURN = "burn"
    """Makes the marker and moves nothing, so that no other attempt of the part can pay."""
    OPEN = "open"
    """Neither: opens token accounts of payees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """A posted transfer of an item, found by its key."""

    code: TransferCode
    amount_nano_usd: int
    owner_id: UUID | None
    """Owner of the account that it leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedItem:
    """A payee, as our rows have it."""

    id: UUID
    provider_id: UUID | None
    """None for the refund of a deposit."""
    wallet: str
    token_account: str
    amount_micro_usdc: int
    state: str
    ledger: Mapping[str, LedgerLine] = field(default_factory=dict)
    """By the last word of the key: sent, settled, returned."""

    @property
    def is_payee(self) -> bool:
        """Whether its part pays it: it was neither quarantined nor given back."""
        return self.state in {"planned", "paid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedAttempt:
    """A signed transaction of a part, as our rows have it."""

    id: UUID
    number: int
    signature: str
    state: str
    purpose: Purpose
    are_bytes_sound: bool
    """Whether the stored bytes are a transaction that this signature signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedPart:
    """A part of a batch, as our rows have it."""

    id: UUID
    batch_number: int
    position: int
    state: str
    total_micro_usdc: int
    marker: str | None
    expected_marker: str | None
    """Computed anew from the part's id and generation; None where the secret is not at hand."""
    is_marker_reclaimed: bool
    signature: str | None
    slot: int | None
    fee_lamports: int | None
    has_successor: bool
    """Another part pays some of the payees that this one began with."""
    items: Sequence[BookedItem] = ()
    attempts: Sequence[BookedAttempt] = ()

    @property
    def is_finalized(self) -> bool:
        """Whether our rows say that it was paid."""
        return self.state == "finalized"

    @property
    def payees(self) -> Sequence[BookedItem]:
        """The items that its transaction pays."""
        return [item for item in self.items if item.is_payee]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a token account of the mint got in one transaction."""

    owner: str
    amount_micro_usdc: int
    """More than 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreasuryTransaction:
    """A finalized transaction that names the treasury's token account."""

    signature: str
    slot: int
    at: datetime | None
    """Time of its block; a node may not know it."""
    fee_lamports: int
    is_failed: bool
    change_micro_usdc: int
    """Of the treasury's token account: below 0 when it paid."""
    received: Mapping[str, Received] = field(default_factory=dict)
    """By token account, the treasury's own left out."""
    accounts: frozenset[str] = frozenset()
    """All that it names; a payout names its marker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A row that explains a change of the treasury's balance by a transaction: a deposit, a recorded withdrawal."""

    table: str
    row: str
    signature: str
    change_micro_usdc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Treasury:
    """The treasury's token account over the time that is looked at."""

    opening_micro_usdc: int
    """Before the first of `history`."""
    history: Sequence[TreasuryTransaction]
    """Oldest first."""
    balance_micro_usdc: int
    """After the last of `history`."""
