"""What the chain shows of a part, as values: the other half of a decision. Nothing here is ever an RPC error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from raymart_billing.payouts.sending.facts import Part, Payee
from raymart_billing.solana.answers import Presence
from raymart_billing.solana.failures import TransactionFailure


class Stage(StrEnum):
    """What the endpoints say of one signature, with the search of history."""

    UNSEEN = "unseen"
    SEEN = "seen"
    """Processed or confirmed: in a block that may still be dropped."""
    CLAIMED = "claimed"
    """Finalized as one of them says, and not as all do: one is behind, or lies."""
    SUCCEEDED = "succeeded"
    """Finalized without an error, as all say."""
    FAILED = "failed"
    """Finalized with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One attempt on the chain."""

    stage: Stage
    error: TransactionFailure | None = None
    """The chain's own, when it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """The transaction that created the marker, as all endpoints show it."""

    signature: str
    slot: int
    fee_lamports: int
    is_ours: bool
    """Signed by the treasury. Else somebody else created the account at the marker's address."""
    paid: Sequence[UUID]
    """Items of the part whose token account got exactly their amount."""
    unknown_micro_usdc: int
    """What it moved out of the treasury to nobody of the part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at the chain. The finalized height was read first, then the statuses, then the marker."""

    height: int
    sights: Mapping[int, Sight]
    """By the number of each live attempt."""
    marker: Presence
    """Whether the marker's account exists at finalized, by all endpoints, each as far as the height at least."""
    landing: Landing | None = None
    """None while they do not all show it, or not the same."""


def unpaid(part: Part, landing: Landing) -> Sequence[Payee]:
    """Those whom `landing` did not pay."""
    return [payee for payee in part.payees if payee.item_id not in landing.paid]


def movable(part: Part, landing: Landing) -> Sequence[Payee]:
    """Those of them who are to be paid by another part. Whoever is quarantined is given the money back instead."""
    return [payee for payee in unpaid(part, landing) if not payee.is_quarantined]
