"""What the gate is told of requests that are over, in-process, by whoever records them."""

from typing import Protocol
from uuid import UUID

from raymart_core.money import Money


class Settlements(Protocol):
    """Turns reservations into charges. All three are plain calls: nothing waits, nothing is written."""

    def settled(self, request_id: UUID, charge: Money) -> None:
        """The usage of `request_id` is durable and costs `charge`: from now only that counts of what it reserved.

        Call it before the acknowledgement goes out, so that who was answered can spend what was left at once.
        """

    def released(self, request_id: UUID) -> None:
        """`request_id` is over and used nothing: all it reserved is available again. A no-op when it is unknown."""

    def posted(self, lease_id: UUID, amount: int) -> None:
        """The ledger took `amount` nano-USD of usage from the lease. A hint: what is missed shows at the next renewal."""


class NoSettlements:
    """For a sink whose gateway admits without leases, as in benches of other parts."""

    def settled(self, request_id: UUID, charge: Money) -> None:
        """Nothing was reserved."""

    def released(self, request_id: UUID) -> None:
        """Nothing was reserved."""

    def posted(self, lease_id: UUID, amount: int) -> None:
        """There is no lease."""
