"""What is unusual about a payee of a batch, for the people who approve it. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from raymart_core.money import BASIS_POINTS, Money

JUMP_FACTOR: Final = 3
"""More than this times what earlier payouts were on average."""
JUMP_PAYOUTS_MIN: Final = 2
"""Earlier payouts that an average is made of at least."""
TRUST_LOW: Final = 40
REFUND_SHARE_HIGH: Final = 1_000
"""In basis points of what was earned in the epoch."""


class OutlierKind(StrEnum):
    """What is unusual."""

    FIRST_PAYOUT = "first_payout"
    NEW_WALLET = "new_wallet"
    """Paid before, but never to this wallet."""
    WALLET_CHANGED = "wallet_changed"
    """Another wallet was chosen, or this one's proof withdrawn, after it was planned."""
    WALLET_WARNING = "wallet_warning"
    """The provider was warned of the wallet: an exchange's, or proven by others too."""
    JUMP = "jump"
    LOW_TRUST = "low_trust"
    FLAGGED_USAGE = "flagged_usage"
    REFUND_SHARE = "refund_share"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What is known of a payee at this moment. Amounts are USDC, earnings dollars."""

    amount: Money
    trust: int
    payouts_before: int
    """Paid ones of at most the last `facts.HISTORY_MAX`."""
    average_before: Money | None
    """Of those; None without any."""
    is_known_wallet: bool
    """Whether one of those went to the same wallet."""
    is_present_wallet: bool
    """Whether it is the provider's wallet still."""
    wallet_warnings: tuple[str, ...]
    usage_flags: int
    """Usage of the provider that is under review now."""
    gross: Money
    """Earned in the epoch."""
    clawed_back: Money
    """Taken by refunds and reversals of it."""

    @property
    def refund_share(self) -> int:
        """In basis points of what was earned; all of it where more was taken than earned."""
        if not self.clawed_back:
            return 0
        if self.clawed_back >= self.gross:
            return BASIS_POINTS
        return self.clawed_back.amount * BASIS_POINTS // self.gross.amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """One thing that is unusual, in words with the figure."""

    kind: OutlierKind
    text: str


def outliers_of(facts: ItemFacts) -> list[Outlier]:
    """Everything that is unusual, the gravest first."""
    found = {
        OutlierKind.FLAGGED_USAGE: facts.usage_flags > 0 and f"{facts.usage_flags} usages are under review",
        OutlierKind.WALLET_CHANGED: not facts.is_present_wallet
        and "the wallet is not the provider's present one any more",
        OutlierKind.NEW_WALLET: bool(facts.payouts_before)
        and not facts.is_known_wallet
        and f"none of the last {facts.payouts_before} payouts went to this wallet",
        OutlierKind.JUMP: _jump(facts),
        OutlierKind.LOW_TRUST: facts.trust < TRUST_LOW and f"trusted by {facts.trust} of 100",
        OutlierKind.REFUND_SHARE: facts.refund_share > REFUND_SHARE_HIGH
        and f"{facts.refund_share / 100:.1f} % of the epoch's earnings were taken back",
        OutlierKind.WALLET_WARNING: bool(facts.wallet_warnings)
        and f"the provider was warned of the wallet: {', '.join(facts.wallet_warnings)}",
        OutlierKind.FIRST_PAYOUT: not facts.payouts_before and "nothing was paid to this provider before",
    }
    return [Outlier(kind=kind, text=text) for kind, text in found.items() if text]


def _jump(facts: ItemFacts) -> str:
    average = facts.average_before
    if average is None or facts.payouts_before < JUMP_PAYOUTS_MIN or facts.amount <= average * JUMP_FACTOR:
        return ""
    times = facts.amount.amount / max(average.amount, 1)
    return f"{times:.1f} times the average of the last {facts.payouts_before} payouts, {average}"
