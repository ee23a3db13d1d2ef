"""The strategies: which of the endpoints that may serve comes first. Pure functions; `routing.market` uses them at size.

Whatever the strategy, the customer's order of providers decides first, then a free slot, then how fast the customer
prefers it, then a revision that was not superseded; the strategy decides among the rest. Each gives a score, of which the lowest is the best, so that a decision
can be shown with the numbers that made it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_marketplace.routing.preference import RoutingPreference, Sort
from raymart_marketplace.routing.route import (
    QUARANTINED,
    Needs,
    Offered,
    Reason,
    Rejection,
    Verdict,
    verdict,
)
from raymart_marketplace.routing.toss import MASK, Toss, mix, point
from raymart_marketplace.supply.live import LiveEndpoint, Standing

OfferedT = TypeVar("OfferedT", bound=Offered)
Score = Callable[[Offered], float]
Rank = tuple[int, bool, bool, bool, float, float, float, UUID]

TYPICAL_TOKENS_PROMPT = 1_500
TYPICAL_TOKENS_COMPLETION = 500
TYPICAL_MEGAPIXEL_STEPS = 20
"""The request by which prices are compared before a request is there, or whatever it is: `Sort.BALANCED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted(Generic[OfferedT]):
    """Every endpoint looked at is in exactly one of the two."""

    ranked: tuple[OfferedT, ...]
    """Best first."""
    rejected: tuple[tuple[OfferedT, Verdict], ...]
    """By id."""
    is_last_resort: bool = False
    """Whether those ranked have failed a moment ago: nothing better was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """A decision in full: every live endpoint of the model is in exactly one of the two."""

    ranked: tuple[LiveEndpoint, ...]
    """Best first."""
    rejected: tuple[Rejection, ...]
    """By id."""
    scores: tuple[float, ...] = ()
    """Of those ranked, by the strategy; the lowest is the best."""
    is_last_resort: bool = False
    """Whether those ranked have failed a moment ago: nothing better was left."""


def candidates(
    endpoints: Iterable[LiveEndpoint],
    preference: RoutingPreference,
    needs: Needs,
    *,
    sort: Sort = Sort.PRICE,
    toss: Toss,
) -> Routing:
    """Filter and rank all of `endpoints` for one request, with every reason; `sort` is what decides without a wish."""
    found = sift(endpoints, preference, needs, sort=preference.sort or sort, toss=toss)
    score = scorer(preference.sort or sort, needs, toss)
    return Routing(
        ranked=found.ranked,
        rejected=tuple(
            Rejection(endpoint=endpoint, reason=why.reason, detail=why.detail)
            for endpoint, why in found.rejected
        ),
        scores=tuple(score(endpoint) for endpoint in found.ranked),
        is_last_resort=found.is_last_resort,
    )


def sift(
    endpoints: Iterable[OfferedT], preference: RoutingPreference, needs: Needs, *, sort: Sort, toss: Toss
) -> Sifted[OfferedT]:
    """Filter and rank; when all that could serve failed a moment ago, those come, the one that rests shortest first.

    The market is never empty by our own doing: a breaker that is wrong costs a try, a market that is closed costs all.
    """
    accepted: list[OfferedT] = []
    resting: list[OfferedT] = []
    rejected: list[tuple[OfferedT, Verdict]] = []
    for endpoint in endpoints:
        found = verdict(endpoint, preference, needs)
        if found is None:
            accepted.append(endpoint)
        elif found.reason is Reason.QUARANTINED:
            resting.append(endpoint)
        else:
            rejected.append((endpoint, found))
    is_last_resort = not accepted and bool(resting)
    if is_last_resort:
        accepted = sorted(resting, key=lambda each: (each.rests_until, each.id))
    else:
        rejected += [(each, QUARANTINED) for each in resting]
        accepted.sort(key=rank_key(preference, needs, sort=sort, toss=toss))
    if accepted and not preference.allow_fallbacks and not preference.order:
        accepted, others = _of_first_provider(accepted)
        rejected += others
    rejected.sort(key=lambda pair: pair[0].id)
    return Sifted(ranked=tuple(accepted), rejected=tuple(rejected), is_last_resort=is_last_resort)


def rank_key(
    preference: RoutingPreference, needs: Needs, *, sort: Sort, toss: Toss
) -> Callable[[Offered], Rank]:
    """The key that sorts the best first."""
    places = {slug: place for place, slug in reversed(list(enumerate(preference.order)))}
    last = len(places)
    score = scorer(sort, needs, toss)
    second, third = _ties(sort, needs)
    has_pace = preference.has_pace

    def rank(offered: Offered) -> Rank:
        place = places.get(offered.provider_slug, last) if places else 0
        full = offered.running >= offered.capacity
        old = offered.standing is Standing.SUPERSEDED
        slow = has_pace and is_slower_than_preferred(offered, preference)
        return place, full, slow, old, score(offered), second(offered), third(offered), offered.id

    return rank


def is_slower_than_preferred(offered: Offered, preference: RoutingPreference) -> bool:
    """Whether it was slower of late than the customer likes. What nothing is known of is not."""
    least, most = preference.tokens_per_s_min_preferred, preference.first_token_ms_max_preferred
    if least is not None:
        found = offered.pace.tokens_per_s
        if found is not None and found.is_below(least):
            return True
    if most is not None:
        found = offered.pace.first_token_ms
        return found is not None and found.is_above(most)
    return False


def scorer(sort: Sort, needs: Needs, toss: Toss) -> Score:
    """The strategy's score, of which the lowest is the best."""
    return _SCORES[sort](needs, toss)


def price_at_bounds(offered: Offered, needs: Needs) -> int:
    """What the request could cost there at most, in nano-USD; compares endpoints, never charges."""
    completion = offered.context_length
    if needs.tokens_completion_max is not None:
        completion = min(completion, needs.tokens_completion_max)
    prompt = min(needs.tokens_prompt_max, offered.context_length)
    prices = offered.prices
    pictures = needs.pixel_steps * prices.image_megapixel_step // Unit.IMAGE_MEGAPIXEL_STEP.scale
    return prompt * prices.token_prompt + completion * prices.token_completion + pictures + prices.request


def price_weight(prices: Prices) -> float:
    """The inverse square of what a typical request costs. What is free weighs as if it cost one nano-USD.

    Source: https://openrouter.ai/docs/features/provider-routing, "load balancing".
    """
    cost = (
        TYPICAL_TOKENS_PROMPT * prices.token_prompt
        + TYPICAL_TOKENS_COMPLETION * prices.token_completion
        + TYPICAL_MEGAPIXEL_STEPS * prices.image_megapixel_step
        + prices.request
    )
    return 1.0 / float(max(cost, 1)) ** 2


def race(offered: Offered, weight: float, toss: Toss) -> float:
    """When `offered` would come in, of runners as fast as their weights: sorted by it, a weighted draw without return.

    Each runner's luck is its own, so the winner stays the winner without a loser.
    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006, as exponential variates.
    """
    return -math.log(toss.share(point(offered.id))) / weight


def load(offered: Offered) -> float:
    """The share of its slots that is taken; above 1 where requests queue."""
    return offered.running / max(offered.capacity, 1)


def expected_ms(offered: Offered) -> float:
    """Milliseconds until a first token, tries that fail and a queue counted in. All alike while nothing is measured."""
    first_token_ms = offered.first_token_ms
    if first_token_ms is None:
        first_token_ms = 1.0
    return first_token_ms * (1.0 + load(offered)) / max(1.0 - offered.error_rate, 0.01)


def _affinity(needs: Needs, toss: Toss) -> Score:
    """Rendezvous hashing: an endpoint that joins or leaves moves only the conversations that were, or will be, its own.

    Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.
    """
    key = needs.affinity
    if key is None:
        return _balanced(needs, toss)
    return lambda offered: -mix(key ^ point(offered.id))


def _ties(sort: Sort, needs: Needs) -> tuple[Score, Score]:
    """What decides among equal scores."""
    if sort is Sort.PRICE:
        return load, _nothing
    if sort in {Sort.LATENCY, Sort.THROUGHPUT, Sort.LEAST_LOADED, Sort.HEALTH}:
        return load, lambda offered: price_at_bounds(offered, needs)
    return _nothing, _nothing


def _nothing(_: Offered) -> float:
    return 0.0


def _of_first_provider(
    ranked: Sequence[OfferedT],
) -> tuple[list[OfferedT], list[tuple[OfferedT, Verdict]]]:
    first = ranked[0].provider_slug
    why = Verdict(Reason.FALLBACK, f"{first} ranks first, and provider.allow_fallbacks is false")
    return (
        [each for each in ranked if each.provider_slug == first],
        [(each, why) for each in ranked if each.provider_slug != first],
    )


def _balanced(_: Needs, toss: Toss) -> Score:
    return lambda offered: race(offered, price_weight(offered.prices), toss)


_SCORES: Mapping[Sort, Callable[[Needs, Toss], Score]] = {
    Sort.BALANCED: _balanced,
    Sort.PRICE: lambda needs, _: lambda offered: price_at_bounds(offered, needs),
    Sort.LATENCY: lambda _needs, _: lambda offered: offered.first_token_ms or 0.0,
    Sort.THROUGHPUT: lambda _needs, _: lambda offered: -(offered.tokens_per_s or 0.0),
    Sort.LEAST_LOADED: lambda _needs, _: load,
    Sort.HEALTH: lambda _needs, _: expected_ms,
    Sort.ROUND_ROBIN: lambda _, toss: lambda offered: (point(offered.id) - toss.cursor - 1) & MASK,
    Sort.WEIGHTED: lambda _, toss: lambda offered: race(offered, float(max(offered.capacity, 1)), toss),
    Sort.AFFINITY: _affinity,
}
assert set(_SCORES) == set(Sort), "every strategy has a score"
