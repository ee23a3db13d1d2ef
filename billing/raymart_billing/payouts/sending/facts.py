"""What our rows say of a part, as values: the half of a decision that is ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from raymart_billing.payouts.models import BatchKind, PartState, Purpose
from raymart_billing.payouts.sending.claims import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Payee:
    """One item of the part."""

    item_id: UUID
    wallet: str
    token_account: str
    amount_micro_usdc: int
    is_quarantined: bool
    """Its money must not leave; it is still in the clearing account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One signed transaction that may still land."""

    number: int
    purpose: Purpose
    signature: str
    raw: bytes
    last_valid_block_height: int
    priority_fee_lamports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part as it was claimed: nobody else changes it while the fence is ours."""

    id: UUID
    batch_id: UUID
    batch_number: int
    kind: BatchKind
    fence: int
    generation: int
    state: PartState
    reason: str | None
    attempts: int
    """With a marker, signed since a person last released it; what the cap counts."""
    number_next: int
    """Of the next attempt."""
    openings: int
    """Attempts of this part that open accounts."""
    may_sign: bool
    """Its batch is approved or sending, and nothing is paused. Asked again within the transaction that signs."""
    is_too_old: bool
    """A marker of its age may have been reclaimed, so that its absence would prove nothing."""
    payees: Sequence[Payee]
    """In the order in which a transaction pays them."""
    live: Sequence[Attempt]
    resolved: Sequence[str]
    """Signatures of the attempts of this generation with a marker that seemed dead: one may have landed all the same."""

    @property
    def claim(self) -> Claim:
        """The lease under which it was read."""
        return Claim(part_id=self.id, fence=self.fence)

    @property
    def purpose(self) -> Purpose:
        """What the next attempt with a marker is for: as soon as one payee is quarantined, nobody is paid by this part."""
        return Purpose.BURN if any(payee.is_quarantined for payee in self.payees) else Purpose.PAY

    @property
    def total_micro_usdc(self) -> int:
        """What an attempt that pays moves."""
        return sum(payee.amount_micro_usdc for payee in self.payees)
