"""The price of an offer follows from what is asked and what is ruled, and from nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.ids import new_id
from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.pricing.effective import (
    HORIZON,
    Cap,
    Card,
    Fee,
    OfferTerms,
    PriceBook,
    Sold,
    Window,
    price_offer,
)
from raymart_marketplace.pricing.windows import Hours

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
PROMPT, COMPLETION, CACHED = Unit.TOKEN_PROMPT, Unit.TOKEN_COMPLETION, Unit.TOKEN_CACHED
SOLD = Sold(model_id=new_id(), revision_id=new_id(), provider_id=new_id(), modality=Modality.CHAT)
ASKS = {PROMPT: 100, COMPLETION: 300}
LONG_AGO = MONDAY - timedelta(days=1_000)
INSTANT = timedelta(microseconds=1)


def card(prices, *, starts=LONG_AGO, ends=None, revision_id=None, model_id=SOLD.model_id) -> Card:
    return Card(starts=starts, ends=ends, model_id=model_id, revision_id=revision_id, prices=prices)


def cap(unit, max_nano_usd, *, starts=LONG_AGO, ends=None, model_id=None) -> Cap:
    return Cap(starts=starts, ends=ends, unit=unit, model_id=model_id, max_nano_usd=max_nano_usd)


def fee(basis_points, *, starts=LONG_AGO, ends=None, provider_id=None, model_id=None) -> Fee:
    return Fee(
        starts=starts, ends=ends, provider_id=provider_id, model_id=model_id, basis_points=basis_points
    )


def book(*, cards=(), caps=(), fees=()) -> PriceBook:
    return PriceBook(cards=tuple(cards), caps=tuple(caps), fees=tuple(fees), fee_basis_points=1_000)


def window(day: int, starts_minute: int, ends_minute: int, *, basis_points=None, **asks) -> Window:
    hours = Hours(days=frozenset({day}), starts_minute=starts_minute, ends_minute=ends_minute)
    return Window(
        hours=hours, basis_points=basis_points, asks={Unit[unit.upper()]: ask for unit, ask in asks.items()}
    )


def prices_of(terms: OfferTerms, rules: PriceBook | None = None, at: datetime = MONDAY) -> Prices | None:
    return price_offer(terms, SOLD, rules or book(), at).prices


class TestAsks:
    def test_the_ask_is_the_price(self):
        assert prices_of(OfferTerms(asks=ASKS | {Unit.REQUEST: 5})) == Prices(
            token_prompt=100, token_completion=300, token_cached=100, request=5
        )

    def test_without_an_ask_the_rate_card_is(self):
        rules = book(cards=[card({PROMPT: 7, COMPLETION: 9, Unit.GPU_SECOND: 11})])
        assert prices_of(OfferTerms(asks={PROMPT: 100}), rules) == Prices(
            token_prompt=100, token_completion=9, token_cached=100, gpu_second=11
        )

    def test_the_revisions_card_goes_before_the_models_unit_by_unit(self):
        own = card({COMPLETION: 2}, revision_id=SOLD.revision_id)
        rules = book(cards=[own, card({PROMPT: 7, COMPLETION: 9}), card({PROMPT: 1}, revision_id=new_id())])
        assert prices_of(OfferTerms(), rules) == Prices(token_prompt=7, token_completion=2, token_cached=7)

    def test_cards_of_other_models_do_not_count(self):
        assert prices_of(OfferTerms(), book(cards=[card(ASKS, model_id=new_id())])) is None

    def test_cached_tokens_never_cost_more_than_others(self):
        terms = OfferTerms(asks=ASKS)
        assert prices_of(terms, book(cards=[card({CACHED: 25})])).token_cached == 25
        assert prices_of(terms, book(cards=[card({CACHED: 125})])).token_cached == 100

    def test_without_any_price_of_tokens_it_cannot_be_sold(self):
        """A price that nobody has set is not zero."""
        price = price_offer(OfferTerms(asks={PROMPT: 1}), SOLD, book(), MONDAY)
        assert price.prices is None
        assert price.reason == "it asks nothing for token.completion, and no rate card has a price"

    def test_nothing_is_a_price_when_it_is_asked(self):
        assert prices_of(OfferTerms(asks={PROMPT: 0, COMPLETION: 0})) == Prices()


class TestKindsOfModels:
    """What must have a price follows from what the model makes."""

    @pytest.mark.parametrize(
        ("modality", "priced", "missing"),
        [
            (Modality.IMAGE, {Unit.IMAGE_MEGAPIXEL_STEP: 2_000}, {PROMPT: 1, COMPLETION: 1}),
            (Modality.EMBEDDING, {PROMPT: 3}, {COMPLETION: 1, Unit.IMAGE_MEGAPIXEL_STEP: 1}),
        ],
    )
    def test_a_model_is_sold_by_its_own_unit_and_by_no_other(self, modality, priced, missing):
        sold = replace(SOLD, modality=modality)
        found = price_offer(OfferTerms(asks=priced), sold, book(), MONDAY)
        assert {unit: price for unit, price in found.prices.items() if unit in priced} == priced
        [unit] = priced
        refused = price_offer(OfferTerms(asks=missing), sold, book(), MONDAY)
        assert refused.prices is None
        assert refused.reason == f"it asks nothing for {unit.value}, and no rate card has a price"

    def test_steps_of_images_have_floors_caps_and_windows_like_tokens(self):
        unit = Unit.IMAGE_MEGAPIXEL_STEP
        half = window(1, 0, 60, basis_points=5_000)
        terms = OfferTerms(asks={unit: 2_001}, floors={unit: 900}, windows=(half,))
        sold = replace(SOLD, modality=Modality.IMAGE)
        at_cap = price_offer(terms, sold, book(caps=[cap(unit, 950)]), MONDAY)
        assert price_offer(terms, sold, book(), MONDAY).prices == Prices(image_megapixel_step=1_000)
        assert at_cap.prices == Prices(image_megapixel_step=950)
        assert price_offer(terms, sold, book(caps=[cap(unit, 899)]), MONDAY).prices is None


class TestWindows:
    def test_in_its_hours_the_window_asks(self):
        terms = OfferTerms(asks=ASKS, windows=(window(1, 540, 1_020, token_completion=50),))
        nine, five = MONDAY + timedelta(hours=9), MONDAY + timedelta(hours=17)
        before, inside = prices_of(terms, at=nine - INSTANT), prices_of(terms, at=nine)
        assert before == Prices(token_prompt=100, token_completion=300, token_cached=100)
        assert inside == Prices(token_prompt=100, token_completion=50, token_cached=100)
        assert prices_of(terms, at=five - INSTANT) == inside
        assert prices_of(terms, at=five) == before

    def test_a_share_is_of_the_base_price_and_rounded_down(self):
        terms = OfferTerms(asks={PROMPT: 7, COMPLETION: 300}, windows=(window(1, 0, 60, basis_points=5_000),))
        rules = book(cards=[card({Unit.REQUEST: 9})])
        assert prices_of(terms, rules) == Prices(
            token_prompt=3, token_completion=150, token_cached=3, request=4
        )

    def test_no_window_goes_below_the_floor(self):
        terms = OfferTerms(
            asks=ASKS, floors={COMPLETION: 200}, windows=(window(1, 0, 60, basis_points=1_000),)
        )
        assert prices_of(terms) == Prices(token_prompt=10, token_completion=200, token_cached=10)

    def test_no_window_goes_above_the_cap(self):
        terms = OfferTerms(asks=ASKS, windows=(window(1, 0, 60, basis_points=20_000),))
        assert prices_of(terms, book(caps=[cap(PROMPT, 150)])).token_prompt == 150


class TestCaps:
    def test_a_cap_below_the_ask_is_the_price(self):
        assert prices_of(OfferTerms(asks=ASKS), book(caps=[cap(PROMPT, 60)])).token_prompt == 60

    def test_of_two_caps_the_lower_binds(self):
        caps = [cap(PROMPT, 60), cap(PROMPT, 50, model_id=SOLD.model_id), cap(PROMPT, 1, model_id=new_id())]
        assert prices_of(OfferTerms(asks=ASKS), book(caps=caps)).token_prompt == 50

    def test_a_cap_below_the_floor_takes_the_offer_out_of_the_market(self):
        """The provider agreed to no price that the marketplace allows."""
        price = price_offer(
            OfferTerms(asks=ASKS, floors={PROMPT: 80}), SOLD, book(caps=[cap(PROMPT, 79)]), MONDAY
        )
        assert price.prices is None
        assert price.reason == "its floor for token.prompt is 80 nano-USD, above the cap of 79"
        assert prices_of(OfferTerms(asks=ASKS, floors={PROMPT: 80}), book(caps=[cap(PROMPT, 80)]))

    def test_a_cap_binds_the_rate_card_too(self):
        rules = book(cards=[card(ASKS)], caps=[cap(COMPLETION, 9)])
        assert prices_of(OfferTerms(), rules).token_completion == 9


class TestFees:
    def test_the_most_specific_schedule_binds(self):
        fees = [
            fee(400, provider_id=SOLD.provider_id, model_id=SOLD.model_id),
            fee(300, provider_id=SOLD.provider_id),
            fee(200, model_id=SOLD.model_id),
            fee(100),
            fee(0, provider_id=new_id()),
        ]
        terms = OfferTerms(asks=ASKS)
        found = [
            price_offer(terms, SOLD, book(fees=fees[skipped:]), MONDAY).fee_basis_points
            for skipped in range(5)
        ]
        assert found == [400, 300, 200, 100, 1_000]

    def test_no_schedule_means_the_setting(self):
        ended = fee(100, ends=MONDAY)
        price = price_offer(OfferTerms(asks=ASKS), SOLD, book(fees=[ended]), MONDAY)
        assert price.fee_basis_points == 1_000


class TestEdges:
    @pytest.mark.parametrize(
        ("rules", "before", "after"),
        [
            (book(cards=[card({Unit.REQUEST: 5}, starts=MONDAY)]), 0, 5),
            (book(cards=[card({Unit.REQUEST: 5}, ends=MONDAY)]), 5, 0),
            (
                book(
                    cards=[
                        card({Unit.REQUEST: 5}, ends=MONDAY),
                        card({Unit.REQUEST: 6}, starts=MONDAY),
                    ]
                ),
                5,
                6,
            ),
            (
                book(cards=[card({Unit.REQUEST: 5})], caps=[cap(Unit.REQUEST, 3, starts=MONDAY)]),
                5,
                3,
            ),
        ],
    )
    def test_a_change_takes_effect_at_its_very_moment(self, rules, before, after):
        terms = OfferTerms(asks=ASKS)
        earlier = price_offer(terms, SOLD, rules, MONDAY - INSTANT)
        assert earlier.prices.request == before
        assert earlier.until == MONDAY
        assert prices_of(terms, rules, MONDAY).request == after

    def test_a_fee_takes_effect_at_its_very_moment(self):
        rules = book(fees=[fee(700, starts=MONDAY)])
        terms = OfferTerms(asks=ASKS)
        earlier = price_offer(terms, SOLD, rules, MONDAY - INSTANT)
        assert (earlier.fee_basis_points, earlier.until) == (1_000, MONDAY)
        assert price_offer(terms, SOLD, rules, MONDAY).fee_basis_points == 700

    def test_what_does_not_concern_the_offer_changes_nothing(self):
        soon = MONDAY + INSTANT
        rules = book(
            cards=[card(ASKS, starts=soon, model_id=new_id())],
            caps=[cap(PROMPT, 1, starts=soon, model_id=new_id())],
            fees=[fee(1, starts=soon, provider_id=new_id())],
        )
        assert price_offer(OfferTerms(asks=ASKS), SOLD, rules, MONDAY).until == MONDAY + HORIZON

    @given(
        offsets=st.lists(st.integers(-90, 90), min_size=6, max_size=6),
        minutes=st.tuples(st.integers(0, 1_439), st.integers(1, 1_440)).filter(
            lambda pair: pair[0] != pair[1]
        ),
        share=st.integers(1, 30_000),
        step=st.integers(0, 10_000),
    )
    def test_the_price_holds_until_it_says(self, offsets, minutes, share, step):
        """What the gateway keeps in memory is never older than the next edge."""
        edges = sorted(MONDAY + timedelta(minutes=offset) for offset in offsets)
        rules = book(
            cards=[
                card({Unit.REQUEST: 40}, starts=edges[0], ends=edges[1]),
                card({Unit.REQUEST: 50}, starts=edges[1]),
            ],
            caps=[cap(Unit.REQUEST, 30, starts=edges[2], ends=edges[4])],
            fees=[fee(123, starts=edges[3], ends=edges[5])],
        )
        terms = OfferTerms(asks=ASKS, windows=(window(1, *minutes, basis_points=share),))
        price = price_offer(terms, SOLD, rules, MONDAY)
        assert price.until > MONDAY
        later = MONDAY + (price.until - MONDAY) * step / 10_001
        again = price_offer(terms, SOLD, rules, later)
        assert (again.prices, again.fee_basis_points) == (price.prices, price.fee_basis_points)

    @given(
        ask=st.integers(0, 10**9),
        floor=st.integers(0, 10**9),
        limit=st.integers(0, 10**9),
        share=st.integers(1, 100_000),
    )
    def test_every_price_is_between_floor_and_cap(self, ask, floor, limit, share):
        terms = OfferTerms(
            asks={PROMPT: ask, COMPLETION: ask},
            floors={PROMPT: floor, COMPLETION: floor},
            windows=(window(1, 0, 60, basis_points=share),),
        )
        found = prices_of(terms, book(caps=[cap(PROMPT, limit), cap(COMPLETION, limit)]))
        assert (found is None) == (limit < floor)
        if found is not None:
            assert floor <= found.token_prompt == found.token_completion <= limit
