"""How large leases are, how long they live, and how long a gateway waits for one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLimits:
    """The bounds of a gateway's leases. Amounts are nano-USD."""

    ttl_s: float = 15.0
    """Life of a lease that is not renewed, by the database's clock."""
    renew_every_s: float = 3.0
    margin_s: float = 3.0
    """How much earlier than the database's expiry a gateway stops to admit, by its own monotonic clock."""
    idle_s: float = 3.0
    """A lease under which nothing was admitted for this long is given back."""
    horizon_s: float = 10.0
    """A slice lasts about this long at the present rate of spending."""
    slice_min: int = 50_000_000
    slice_max: int = 50_000_000_000
    share: int = 4
    """A slice is at most 1/`share` of what is available, budgets included."""
    per_request_s: float = 1.0
    """How long a spender near zero stays with single-use leases before a slice is tried again."""
    recall_wait_s: float = 0.3
    """How long a request waits for others to give back what they do not need, before it is refused."""
    statement_timeout_s: float = 5.0
    """How long a request waits for a database that is away."""
    takes_at_once_max: int = 4
    """Single-use leases taken side by side, so that they leave connections to the usage sink."""
    payers_max: int = 100_000
    """Keys whose budgets are remembered."""

    def __post_init__(self) -> None:
        assert 0 < self.renew_every_s < self.ttl_s - self.margin_s, (
            "a lease must be renewed before it is given up"
        )
        assert 0 < self.slice_min <= self.slice_max
