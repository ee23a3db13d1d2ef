"""The endpoints that a request may be sent to, each looked at closely only when it is its turn.

Of the endpoints that a decision names most requests need one. A snapshot reads some forty values that no other request
has read lately, which costs more than the decision itself.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import overload

from raymart_core.ports import Prices
from raymart_marketplace.routing.market import Row
from raymart_marketplace.routing.route import Offered
from raymart_marketplace.supply.live import LiveEndpoint


class Candidates(Sequence[LiveEndpoint]):
    """Snapshots of rows, best first, at the prices of the decision: what is held is made of those."""

    __slots__ = ("_taken", "prices", "rows")

    def __init__(self, rows: Sequence[Row]) -> None:
        """The rows are sold at this moment."""
        self.rows = rows
        self.prices = [row.prices for row in rows]
        self._taken: list[LiveEndpoint | None] = [None] * len(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, position: int) -> LiveEndpoint: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[LiveEndpoint]: ...

    def __getitem__(self, position: int | slice) -> LiveEndpoint | Sequence[LiveEndpoint]:
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self.rows)))]
        return self._at(position)

    def __iter__(self) -> Iterator[LiveEndpoint]:
        return map(self._at, range(len(self.rows)))

    def _at(self, position: int) -> LiveEndpoint:
        taken = self._taken[position]
        if taken is None:
            taken = self._taken[position] = self.rows[position].snapshot(self.prices[position])
        return taken


def priced(plan: Sequence[LiveEndpoint]) -> Iterator[tuple[Offered, Prices]]:
    """What a hold is made of: each endpoint, and its prices when it was chosen."""
    if isinstance(plan, Candidates):
        return zip(plan.rows, plan.prices, strict=True)
    return ((endpoint, endpoint.prices) for endpoint in plan)


def turns(plan: Sequence[LiveEndpoint]) -> Iterator[tuple[LiveEndpoint, Offered | None]]:
    """Each endpoint when it is its turn, and where the request would go next."""
    offered: Sequence[Offered] = plan.rows if isinstance(plan, Candidates) else plan
    spares = iter(offered)
    next(spares, None)
    return zip_longest(plan, spares)
