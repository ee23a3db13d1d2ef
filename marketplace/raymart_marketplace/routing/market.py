"""The live endpoints of one model, kept so that a decision looks at a few of them, however many there are.

Up to `EXACT_MAX` endpoints every decision looks at all of them. Beyond that it draws from an order of the strategy's own
(`routing.order`), which is made anew off the path of decisions, by `tend`, within `TEND_EVERY_S` of a change. What is
drawn is judged as it is at that moment, by `route.verdict`: an order that is late costs a look, never a wrong price, an
endpoint that is gone or one that was ruled out.

When `LOOKS_MAX` looks find too few, the wish is a rare one: those that meet it are kept as a market of their own, a view.
When there too few are found, all of them are looked at, and what that showed is good for `FOUND_S`: when every endpoint
has failed or every provider is full, a request is refused as quickly as another is served.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from uuid import UUID

from msgspec import Struct, structs

from raymart_marketplace.routing.order import LOOKS_MAX, OLD_AFTER_S, Order, Row, ordered, walk
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.routing.ranking import is_slower_than_preferred, load, scorer, sift
from raymart_marketplace.routing.route import Needs, Reason, Verdict, verdict
from raymart_marketplace.routing.toss import Toss, point
from raymart_marketplace.supply.live import Standing

EXACT_MAX = 16
WINDOW = 6
"""How many that may serve are compared where an order says only nearly what is best."""
PRICE_WINDOW = 12
"""The same by price, which depends on the request's own mix of prompt and answer."""
TEND_EVERY_S = 0.25
USED_S = 10.0
"""Orders and views that nobody asked for so long are dropped."""
VIEW_S = 1.0
VIEWS_MAX = 32
FOUND_S = 0.25
FOUND_MAX = 32
"""Endpoints that are kept of a look at all, and looks that are remembered."""
INLINE_MAX = 256
"""An order of so few endpoints is made anew by the decision that finds it late."""
REASONS_MAX = 20
"""Endpoints of which a refusal tells why; the others are counted."""


class Choice(Struct, frozen=True, kw_only=True):
    """What was decided, and what is needed to decide it again."""

    rows: tuple[Row, ...]
    """Best first; none where nothing may serve."""
    sort: Sort
    toss: Toss
    looked_at: int
    """Endpoints that were judged; all of them at most."""
    is_last_resort: bool = False
    """Whether those chosen have failed a moment ago: nothing better was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejections:
    """Why nothing may serve."""

    first: tuple[tuple[Row, Verdict], ...]
    """By id, `REASONS_MAX` at most."""
    others: Counter[Reason]
    """Of the rest, how many for each reason."""
    context_max: int | None
    """The longest context, where that alone is why."""


@dataclass(slots=True, kw_only=True, eq=False)
class _View:
    """Those that met a wish, as it was."""

    market: "Market"
    version: int
    made_at: float
    used_at: float


@dataclass(slots=True, kw_only=True, eq=False)
class _Found:
    """What a look at all showed."""

    rows: tuple[Row, ...]
    until: float


class Market:
    """Endpoints of one model, or those of them that meet one wish. Not for several threads."""

    def __init__(self, rows: Iterable[Row] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: dict[UUID, Row] = {}
        self._providers: dict[str, dict[UUID, Row]] = {}
        self._orders: dict[Sort, Order] = {}
        self._views: dict[_Wish, _View] = {}
        self._found: dict[_Asked, _Found] = {}
        self._rejections: dict[tuple[RoutingPreference, Needs], tuple[float, Rejections]] = {}
        self._version = 0
        self.cursor = 0
        """Place on the ring of who was served last by round robin."""
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def any_row(self) -> Row | None:
        """One of the endpoints, for what is the same of all; None of an empty market."""
        return next(iter(self._rows.values()), None)

    def add(self, row: Row) -> None:
        """Put an endpoint in, or another in the place of the one with its id."""
        self._rows[row.id] = row
        self._providers.setdefault(row.provider_slug, {})[row.id] = row
        self._version += 1

    def remove(self, endpoint_id: UUID) -> None:
        """Take an endpoint out; it is not chosen any more from this moment."""
        slug = self._rows.pop(endpoint_id).provider_slug
        rows = self._providers[slug]
        del rows[endpoint_id]
        if not rows:
            del self._providers[slug]
        self._version += 1

    def changed(self) -> None:
        """Note that something fixed about an endpoint has changed, a price or what it serves; its load is not."""
        self._version += 1

    def choose(
        self, preference: RoutingPreference, needs: Needs, *, sort: Sort, toss: Toss, wanted: int
    ) -> Choice:
        """Up to `wanted` endpoints that may serve, best first; `sort` is what decides without a wish of the customer's.

        The market is of the model that is asked for. A property test holds it against `ranking.sift`, which looks at all.
        """
        sort = preference.sort or sort
        if sort is Sort.AFFINITY and needs.affinity is None:
            sort = Sort.BALANCED
        if len(self._rows) <= EXACT_MAX:
            choice = self.choose_exactly(preference, needs, sort, toss, wanted)
        elif preference.order:
            choice = self._choose_in_order(preference, needs, sort, toss, wanted)
        else:
            choice = self._choose_drawn(preference, needs, sort, toss, wanted)
            if choice.rows and not preference.allow_fallbacks:
                only = replace(preference, only=(choice.rows[0].provider_slug,), allow_fallbacks=True)
                choice = self._choose_drawn(only, needs, sort, toss, wanted)
        if sort is Sort.ROUND_ROBIN and choice.rows:
            self.cursor = point(choice.rows[0].id)
        return choice

    def rejections(self, preference: RoutingPreference, needs: Needs) -> Rejections:
        """Why nothing may serve; after `choose` has found that."""
        key, now = (replace(preference, sort=None), needs), self._clock()
        known = self._rejections.get(key)
        if known is not None and now < known[0]:
            return known[1]
        rejections = _rejections(self._rows.values(), preference, needs)
        if len(self._rows) > EXACT_MAX:
            if len(self._rejections) >= FOUND_MAX:
                self._rejections.clear()
            self._rejections[key] = now + FOUND_S, rejections
        return rejections

    def tend(self) -> Iterator[None]:
        """Make anew what has become old and is still asked for; drop what is not. Run it to its end every `TEND_EVERY_S`.

        It yields where other work may be done: an order of ten thousand endpoints takes milliseconds.
        """
        now = self._clock()
        for asked in [key for key, found in self._found.items() if found.until < now]:
            del self._found[asked]
        if any(until < now for until, _ in self._rejections.values()):
            self._rejections.clear()
        for sort, order in tuple(self._orders.items()):
            if now - order.used_at > USED_S:
                del self._orders[sort]
            elif self._is_late(sort, order, now):
                self._orders[sort] = self._ordered(sort, used_at=order.used_at)
                yield
        for key, view in tuple(self._views.items()):
            if now - view.used_at > USED_S:
                del self._views[key]
        if self._tend_oldest_view(now):
            yield
        for view in tuple(self._views.values()):
            yield from view.market.tend()

    def _tend_oldest_view(self, now: float) -> bool:
        # One at a time: each looks at every endpoint, and customers may wish for as many things as they like.
        late = [key for key, view in self._views.items() if self._is_view_late(key, view, now)]
        if not late:
            return False
        oldest = min(late, key=lambda key: self._views[key].made_at)
        self._views[oldest] = self._viewed(oldest, used_at=self._views[oldest].used_at)
        return True

    # All of them.

    def choose_exactly(
        self, preference: RoutingPreference, needs: Needs, sort: Sort, toss: Toss, wanted: int
    ) -> Choice:
        """The same by a look at all of them; of many, what one showed a moment ago is believed."""
        rows: Iterable[Row] = self._rows.values()
        if len(self._rows) > EXACT_MAX:
            rows = self._all_that_may(preference, needs, sort, toss)
        sold = [row for row in rows if row.is_sold]
        found = sift(sold, preference, needs, sort=sort, toss=toss)
        return Choice(
            rows=found.ranked[:wanted],
            sort=sort,
            toss=toss,
            looked_at=len(sold),
            is_last_resort=found.is_last_resort,
        )

    def _all_that_may(
        self, preference: RoutingPreference, needs: Needs, sort: Sort, toss: Toss
    ) -> tuple[Row, ...]:
        """The best `FOUND_MAX` that may serve such a request."""
        key, now = _asked(replace(preference, sort=None), needs), self._clock()
        found = self._found.get(key)
        if found is not None and now < found.until:
            if not found.rows or any(verdict(row, preference, needs) is None for row in found.rows):
                return found.rows
            if all(row.quarantined for row in found.rows):
                return found.rows
        # What is found is for all requests of nearly this length, so it has to be for the shortest of them.
        asked = structs.replace(needs, tokens_min=_shortest(needs))
        sold = [row for row in self._rows.values() if row.is_sold]
        rows = sift(sold, preference, asked, sort=sort, toss=toss).ranked
        if rows and not any(row.context_length >= needs.tokens_min for row in rows[:FOUND_MAX]):
            # All of them: what is too short for this one may have kept the last resort of it from being ranked.
            return tuple(sold)
        if len(self._found) >= FOUND_MAX:
            del self._found[min(self._found, key=lambda each: self._found[each].until)]
        self._found[key] = _Found(rows=rows[:FOUND_MAX], until=now + FOUND_S)
        return rows[:FOUND_MAX]

    # Many: drawn from an order.

    def _choose_in_order(
        self, preference: RoutingPreference, needs: Needs, sort: Sort, toss: Toss, wanted: int
    ) -> Choice:
        """The customer's first provider, then the next, then any other if that is allowed."""
        slugs = tuple(dict.fromkeys(preference.order))
        steps = [
            replace(preference, order=(), only=(slug,), allow_fallbacks=True)
            for slug in slugs
            if not preference.only or slug in preference.only
        ]
        if preference.allow_fallbacks:
            steps.append(replace(preference, order=(), ignore=(*preference.ignore, *slugs)))
        rows: tuple[Row, ...] = ()
        looked_at, last_resort = 0, None
        for step in steps:
            choice = self._choose_drawn(step, needs, sort, toss, wanted - len(rows))
            looked_at += choice.looked_at
            if choice.is_last_resort:
                last_resort = last_resort or choice
                continue
            rows += choice.rows
            if len(rows) >= wanted:
                break
        if not rows and last_resort is not None:
            return structs.replace(last_resort, looked_at=looked_at)
        return Choice(rows=rows, sort=sort, toss=toss, looked_at=looked_at)

    def _choose_drawn(
        self, preference: RoutingPreference, needs: Needs, sort: Sort, toss: Toss, wanted: int
    ) -> Choice:
        wishes = preference
        if preference is not NO_PREFERENCE:
            wishes = replace(preference, sort=None, allow_fallbacks=True)
        # Most are the very object, whose fields need no comparing.
        if needs.revision is None and (wishes is NO_PREFERENCE or wishes == NO_PREFERENCE):
            # The very object: `verdict` looks no further then.
            drawn = self.draw(NO_PREFERENCE, needs, sort, toss, wanted)
            return drawn or self.choose_exactly(NO_PREFERENCE, needs, sort, toss, wanted)
        if not wishes.only and (wishes, needs.model_slug, needs.revision) not in self._views:
            drawn = self.draw(wishes, needs, sort, toss, wanted)
            if drawn is not None and len(drawn.rows) >= wanted:
                return drawn
        view = self._view(wishes, needs)
        drawn = view.draw(wishes, needs, sort, toss, wanted) if len(view) > EXACT_MAX else None
        return drawn or view.choose_exactly(wishes, needs, sort, toss, wanted)

    def draw(
        self, wishes: RoutingPreference, needs: Needs, sort: Sort, toss: Toss, wanted: int
    ) -> Choice | None:
        """Those that the order gives until enough may serve; None when it gave fewer than two.

        A free slot and the current revision come first.
        """
        is_drawn = sort in _DRAWN
        enough = wanted if is_drawn else max(wanted, PRICE_WINDOW if sort is Sort.PRICE else WINDOW)
        has_pace = wishes.has_pace
        good: list[Row] = []
        spare: list[Row] = []
        seen: set[int] = set()
        for row in walk(self._order(sort), sort, needs, toss):
            if id(row) in seen:  # Drawn before; an id is hashed five times faster than a UUID.
                continue
            seen.add(id(row))
            is_spare = (
                row.running >= row.capacity
                or row.standing is Standing.SUPERSEDED
                or (has_pace and is_slower_than_preferred(row, wishes))
            )
            if is_spare and len(spare) >= wanted:
                continue
            if not row.is_sold or verdict(row, wishes, needs) is not None:
                continue
            (spare if is_spare else good).append(row)
            if len(good) >= enough:
                break
        if len(good) + len(spare) < min(2, wanted):
            return None
        if not is_drawn:
            score = scorer(sort, needs, toss)
            good.sort(key=lambda row: (score(row), load(row), row.id.int))
        if len(good) < wanted:
            spare.sort(
                key=lambda row: (
                    row.running >= row.capacity,
                    is_slower_than_preferred(row, wishes),
                    row.standing is Standing.SUPERSEDED,
                )
            )
        return Choice(rows=(*good, *spare)[:wanted], sort=sort, toss=toss, looked_at=len(seen))

    def _order(self, sort: Sort) -> Order:
        now = self._clock()
        order = self._orders.get(sort)
        if order is None or (len(self._rows) <= INLINE_MAX and self._is_late(sort, order, now)):
            order = self._orders[sort] = self._ordered(sort, used_at=now)
        order.used_at = now
        return order

    def _is_late(self, sort: Sort, order: Order, now: float) -> bool:
        return order.version != self._version or now - order.made_at > OLD_AFTER_S.get(sort, math.inf)

    def _ordered(self, sort: Sort, *, used_at: float) -> Order:
        rows, keys = ordered(sort, self._rows.values())
        return Order(rows=rows, keys=keys, version=self._version, made_at=self._clock(), used_at=used_at)

    # Those that meet a wish.

    def _view(self, wishes: RoutingPreference, needs: Needs) -> "Market":
        """Those that met the wish a moment ago, whatever their load."""
        key = (wishes, needs.model_slug, needs.revision)
        now = self._clock()
        view = self._views.get(key)
        if view is None or (self._is_view_small(wishes) and self._is_view_late(key, view, now)):
            view = self._viewed(key, used_at=now)
            if len(self._views) >= VIEWS_MAX:
                del self._views[min(self._views, key=lambda each: self._views[each].used_at)]
            self._views[key] = view
        view.used_at = now
        return view.market

    def _is_view_small(self, wishes: RoutingPreference) -> bool:
        """Whether few have to be looked at to make it."""
        if len(self._rows) <= INLINE_MAX:
            return True
        return (
            bool(wishes.only)
            and sum(len(self._providers.get(slug, ())) for slug in wishes.only) <= INLINE_MAX
        )

    def _is_view_late(self, key: "_Wish", view: _View, now: float) -> bool:
        if view.version != self._version:
            return True
        # Prices change by the clock too.
        wishes = key[0]
        has_cap = any(
            limit is not None
            for limit in (
                wishes.prompt_nano_usd_max,
                wishes.completion_nano_usd_max,
                wishes.request_nano_usd_max,
                wishes.image_nano_usd_max,
            )
        )
        return has_cap and now - view.made_at > VIEW_S

    def _viewed(self, key: "_Wish", *, used_at: float) -> _View:
        wishes, model_slug, revision = key
        needs = Needs(
            model_slug=model_slug,
            revision=revision,
            tokens_prompt_max=0,
            tokens_completion_max=0,
            tokens_min=0,
        )
        rows: Iterable[Row] = self._rows.values()
        if wishes.only:
            slugs = dict.fromkeys(wishes.only)
            rows = chain.from_iterable(self._providers.get(slug, {}).values() for slug in slugs)
        met = (row for row in rows if row.is_sold and _meets(row, wishes, needs))
        market = Market(met, clock=self._clock)
        return _View(market=market, version=self._version, made_at=self._clock(), used_at=used_at)


def _meets(row: Row, wishes: RoutingPreference, needs: Needs) -> bool:
    found = verdict(row, wishes, needs)
    return found is None or found.reason in {Reason.CROWDED, Reason.QUARANTINED}


def _rejections(rows: Iterable[Row], preference: RoutingPreference, needs: Needs) -> Rejections:
    rejected = [
        (row, found) for row in rows if row.is_sold and (found := verdict(row, preference, needs)) is not None
    ]
    rejected.sort(key=lambda pair: pair[0].id.int)
    is_context = bool(rejected) and all(found.reason is Reason.CONTEXT for _, found in rejected)
    return Rejections(
        first=tuple(rejected[:REASONS_MAX]),
        others=Counter(found.reason for _, found in rejected[REASONS_MAX:]),
        context_max=max(row.context_length for row, _ in rejected) if is_context else None,
    )


def _asked(wishes: RoutingPreference, needs: Needs) -> "_Asked":
    picture = needs.pixel_steps // max(needs.pictures, 1) if wishes.image_nano_usd_max is not None else 0
    return wishes, needs.model_slug, needs.revision, needs.tokens_min.bit_length(), picture


def _shortest(needs: Needs) -> int:
    return 1 << (needs.tokens_min.bit_length() - 1) if needs.tokens_min else 0


_Wish = tuple[RoutingPreference, str, str | None]
"""A preference that names no strategy, the model and the revision."""
_Asked = tuple[RoutingPreference, str, str | None, int, int]
"""The same, how many binary digits the tokens have that the context has to hold, and what a picture takes if that counts."""
_DRAWN = frozenset({Sort.BALANCED, Sort.WEIGHTED, Sort.ROUND_ROBIN})
"""Strategies whose order of drawing is the decision; with the others the best of those drawn is."""
__all__ = ["EXACT_MAX", "LOOKS_MAX", "Choice", "Market", "Rejections", "Row"]
