"""How many requests of this process may be under way at one provider, so that a sick one cannot take all of a gateway.

A provider that stalls keeps each request until a timeout. Without a bulkhead its share of the traffic piles up, and takes
the memory, the connections and the leases of credit of requests that others would serve.
"""

REQUESTS_MIN = 32
"""However small the provider, so many."""
PER_SLOT = 4
"""Requests for each slot of its live endpoints: one that runs, and some in the queue."""
REQUESTS_MAX = 1_000


class Bulkhead:
    """One provider's requests of this process."""

    __slots__ = ("_most", "limit", "slots", "under_way")

    def __init__(self, *, most: int = REQUESTS_MAX) -> None:
        """`most`: requests, however many slots it has."""
        self._most = most
        self.under_way = 0
        self.slots = 0
        """Generations at once over all its live endpoints."""
        self.limit = min(REQUESTS_MIN, most)

    @property
    def is_full(self) -> bool:
        """Whether another request has to go elsewhere."""
        return self.under_way >= self.limit

    def add_slots(self, count: int) -> None:
        """Endpoints with so many slots came, or left where `count` is negative."""
        self.slots += count
        assert self.slots >= 0
        self.limit = min(max(REQUESTS_MIN, PER_SLOT * self.slots), self._most)
