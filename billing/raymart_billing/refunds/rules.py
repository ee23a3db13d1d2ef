"""When a request that was billed is refunded without anybody asking: a table, by whose failure ended it.

A reply that breaks off after its first token is billed for what was delivered, because the provider has worked for it.
Whether the customer has to pay for half an answer is decided here. The table's version is kept with each refund; a
change of the table is a new version and touches no refund that was made under an older one.

| fault of the last attempt | customer gets back | who bears it |
|---|---|---|
| provider: died, stalled or miscounted | all | the provider: taken back from what it has not been paid |
| platform: our bug, database or restart | all | the platform; the provider keeps what it earned |
| network: the link broke while both ends lived | half | the platform; the provider keeps what it earned |
| customer: left, or asked wrongly | nothing | |
| none: nobody's, such as a deadline | nothing | |
"""

from collections.abc import Mapping
from dataclasses import dataclass

from raymart_billing.refunds.models import Bearer
from raymart_core.money import BASIS_POINTS, Money
from raymart_core.units import Fault

RULES_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRule:
    """What a customer gets back, and who bears it."""

    name: str
    """Kept with the refund."""
    share_basis_points: int
    """Of the charge; 10,000 is all of it."""
    bearer: Bearer
    reason: str
    """For the customer."""

    def amount(self, charge: Money) -> Money:
        """The share of `charge`, rounded up to a nano-USD in the customer's favour; never more than `charge`."""
        kept = charge.portion_rounded_down(basis_points=BASIS_POINTS - self.share_basis_points)
        return charge - kept


RULES: Mapping[Fault, RefundRule] = {
    Fault.PROVIDER: RefundRule(
        name="broken_by_provider",
        share_basis_points=BASIS_POINTS,
        bearer=Bearer.PROVIDER,
        reason="The provider failed before the answer was whole.",
    ),
    Fault.PLATFORM: RefundRule(
        name="broken_by_platform",
        share_basis_points=BASIS_POINTS,
        bearer=Bearer.PLATFORM,
        reason="Raymart failed before the answer was whole.",
    ),
    Fault.NETWORK: RefundRule(
        name="broken_by_network",
        share_basis_points=BASIS_POINTS // 2,
        bearer=Bearer.PLATFORM,
        reason="The connection to the provider broke before the answer was whole.",
    ),
}
"""Faults without a rule are not refunded by rule; an administrator still may."""
