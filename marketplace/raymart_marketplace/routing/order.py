"""Orders: a market's endpoints as one strategy would go through them, made beforehand.

An order is late by the time it is used. That costs looks and never correctness, because what it yields is judged anew.
"""

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from typing import Protocol
from uuid import UUID

from raymart_core.ports import Prices
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.routing.preference import Sort
from raymart_marketplace.routing.ranking import expected_ms, price_weight
from raymart_marketplace.routing.route import Needs, Offered
from raymart_marketplace.routing.toss import Toss, mix, point
from raymart_marketplace.supply.live import LiveEndpoint

LOOKS_MAX = 64
"""Endpoints that one decision draws at most."""
_MEASURED_S = 0.5
_PRICED_S = 2.0
OLD_AFTER_S = {
    Sort.LATENCY: _MEASURED_S,
    Sort.THROUGHPUT: _MEASURED_S,
    Sort.HEALTH: _MEASURED_S,
    Sort.PRICE: _PRICED_S,
    Sort.BALANCED: _PRICED_S,
}
"""Seconds, for strategies by what changes without a word: measured figures, and prices, by the clock."""


class Row(Offered, Protocol):
    """One live endpoint; its figures change while it is in a market."""

    @property
    def is_sold(self) -> bool:
        """Whether it is live and has a price at this moment. Of one that was removed, never again."""

    @property
    def modality(self) -> Modality:
        """What its model makes."""

    def is_for(self, organization_id: UUID | None) -> bool:
        """Whether the organization may use its model."""

    def snapshot(self, prices: Prices | None = None) -> LiveEndpoint:
        """The endpoint as it is now, at `prices` of a moment ago; without them only while it is sold."""


@dataclass(slots=True, kw_only=True, eq=False)
class Order:
    """A market by one strategy, as it was."""

    rows: Sequence[Row]
    keys: Sequence[float]
    """Cumulative weights, or places on the ring; none for what is only sorted."""
    version: int
    made_at: float
    used_at: float


def ordered(sort: Sort, rows: Iterable[Row]) -> tuple[Sequence[Row], Sequence[float]]:
    """Those of `rows` that are sold by the strategy, and their keys."""
    # By id first: what is equal to a strategy has one order, whatever order it came in.
    sold = sorted((row for row in rows if row.is_sold), key=lambda row: row.id.int)
    match sort:
        case Sort.BALANCED:
            return sold, list(accumulate(price_weight(row.prices) for row in sold))
        case Sort.WEIGHTED:
            return sold, list(accumulate(float(max(row.capacity, 1)) for row in sold))
        case Sort.ROUND_ROBIN | Sort.AFFINITY:
            sold.sort(key=lambda row: point(row.id))
            return sold, [point(row.id) for row in sold]
        case Sort.PRICE:
            return _cheapest_first(sold), ()
        case Sort.LATENCY:
            sold.sort(key=lambda row: row.first_token_ms or 0.0)
        case Sort.THROUGHPUT:
            sold.sort(key=lambda row: -(row.tokens_per_s or 0.0))
        case Sort.HEALTH:
            sold.sort(key=expected_ms)
        case Sort.LEAST_LOADED:
            pass  # Load changes with every request; it is drawn from at random.
    return sold, ()


def walk(order: Order, sort: Sort, needs: Needs, toss: Toss) -> Iterator[Row]:
    """At most `LOOKS_MAX` endpoints in the strategy's order; where chance draws, some come more than once."""
    rows, keys = order.rows, order.keys
    if not rows:
        return
    if sort in {Sort.BALANCED, Sort.WEIGHTED}:
        total, last = keys[-1], len(rows) - 1
        for draw in range(LOOKS_MAX):
            place = bisect(keys, toss.number(draw) * total)
            yield rows[min(last, place)]
    elif sort is Sort.LEAST_LOADED:
        for draw in range(LOOKS_MAX):
            yield rows[int(toss.number(draw) * len(rows))]
    elif sort in {Sort.ROUND_ROBIN, Sort.AFFINITY}:
        begin = toss.cursor if sort is Sort.ROUND_ROBIN else mix(needs.affinity or 0)
        first = bisect(keys, begin)
        yield from rows[first : first + LOOKS_MAX]
        yield from rows[: max(0, min(first, first + LOOKS_MAX - len(rows)))]
    else:
        yield from islice(rows, LOOKS_MAX)


def _cheapest_first(rows: Sequence[Row]) -> list[Row]:
    """The cheapest of a typical mix, of prompts and of answers in turns: one of them is what a request finds cheapest."""
    typical = sorted(rows, key=lambda row: price_weight(row.prices), reverse=True)
    prompt = sorted(rows, key=lambda row: row.prices.token_prompt)
    completion = sorted(rows, key=lambda row: row.prices.token_completion)
    turns = chain.from_iterable(zip(typical, prompt, completion, strict=True))
    return list({id(row): row for row in turns}.values())
