"""What a transaction may use and pay, and whether the treasury can afford what is to be sent.

A transaction of one signature costs 5,000 lamports, and what it offers above that to be preferred. The offer starts at
what recent transactions on the same accounts paid, doubles with each attempt, and never exceeds the cap: endpoints
tell what others paid, and one that lies must not empty the treasury.
"""

from dataclasses import dataclass
from enum import StrEnum

from raymart_billing.solana.transactions import (
    COMPUTE_UNITS_MAX,
    FEE_LAMPORTS_PER_SIGNATURE,
    MICRO_LAMPORTS,
    Limits,
)

HEADROOM_TENTHS = 12
"""What runs may take a little more than its simulation, by the accounts' state then: 1.2 times."""
UNITS_MIN = 5_000
BUMPS_MAX = 32


def limits_for(
    *, simulated_units: int, price_micro_lamports: int, bumps: int, priority_fee_lamports_max: int
) -> Limits:
    """What attempt number `bumps` (from 0) may use and offers.

    `price_micro_lamports` is what recent transactions paid per compute unit. Without one, the first attempt offers
    nothing and each further one as if it had been 1,000.
    """
    assert bumps >= 0, f"{bumps} bumps"
    units = compute_unit_limit(simulated_units)
    price = price_micro_lamports if price_micro_lamports or not bumps else 1_000
    offered = -(-price * units // MICRO_LAMPORTS) << min(bumps, BUMPS_MAX)
    return Limits(compute_units=units, priority_fee_lamports=min(offered, priority_fee_lamports_max))


def compute_unit_limit(simulated_units: int) -> int:
    """1.2 times what the simulation used, within what a transaction may."""
    units = -(-simulated_units * HEADROOM_TENTHS // 10)
    return min(max(units, UNITS_MIN), COMPUTE_UNITS_MAX)


class Shortage(StrEnum):
    """Why nothing can be sent now."""

    USDC = "treasury_short_of_usdc"
    SOL = "treasury_short_of_sol"
    NO_TOKEN_ACCOUNT = "treasury_without_token_account"
    FROZEN = "treasury_frozen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """What the treasury holds."""

    lamports: int
    micro_usdc: int
    has_token_account: bool
    is_frozen: bool
    rent_lamports: int
    """What stays: the rent of the treasury's own account, without which the chain refuses a fee."""

    def shortages(self, *, lamports: int, micro_usdc: int) -> tuple[Shortage, ...]:
        """What of it does not suffice to send `micro_usdc` at a cost of `lamports`."""
        found = []
        if not self.has_token_account:
            found.append(Shortage.NO_TOKEN_ACCOUNT)
        elif self.is_frozen:
            found.append(Shortage.FROZEN)
        elif self.micro_usdc < micro_usdc:
            found.append(Shortage.USDC)
        if self.lamports - self.rent_lamports < lamports:
            found.append(Shortage.SOL)
        return tuple(found)


def payout_cost_lamports(*, marker_rent_lamports: int, priority_fee_lamports: int) -> int:
    """What one attempt takes out of the treasury; the marker's rent comes back."""
    return FEE_LAMPORTS_PER_SIGNATURE + priority_fee_lamports + marker_rent_lamports
