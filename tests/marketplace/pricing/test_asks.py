"""What a provider asks is checked against floors and caps when it is set, and never contradicts itself."""

import asyncio

import pytest
from sqlalchemy import text

from raymart_core.errors import InvalidRequest
from raymart_core.units import Unit
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.pricing import service as pricing
from raymart_marketplace.pricing.asks import WINDOWS_MAX
from raymart_marketplace.pricing.book import load_terms
from raymart_marketplace.pricing.effective import OfferTerms, Window
from raymart_marketplace.pricing.windows import Hours
from raymart_marketplace.supply.models import Offer
from raymart_marketplace.supply.service import open_offer, set_asks, set_floors, set_unit_asks, set_windows
from support.market import make_provider, make_revision

PROMPT, COMPLETION, REQUEST = Unit.TOKEN_PROMPT, Unit.TOKEN_COMPLETION, Unit.REQUEST


@pytest.fixture
async def revision(sessions: Sessions):
    async with session_scope(sessions) as session:
        return await make_revision(session)


@pytest.fixture
async def offer(sessions: Sessions, revision) -> Offer:
    async with session_scope(sessions) as session:
        provider = await make_provider(session)
        return await open_offer(
            session,
            provider_id=provider.id,
            revision_id=revision.id,
            ask_prompt_nano_usd=100,
            ask_completion_nano_usd=300,
        )


async def terms_of(sessions: Sessions, offer: Offer) -> OfferTerms:
    async with session_scope(sessions) as session:
        return (await load_terms(session, [offer.id]))[offer.id]


async def change(sessions: Sessions, setter, offer: Offer, **values) -> Offer:
    async with session_scope(sessions) as session:
        return await setter(session, offer_id=offer.id, **values)


async def cap(sessions: Sessions, model_id, unit: Unit, max_nano_usd: int) -> None:
    async with session_scope(sessions) as session:
        await pricing.set_price_cap(
            session, unit=unit, max_nano_usd=max_nano_usd, model_id=model_id, reason="a test", actor_id=None
        )


def window(days, starts: int, ends: int, *, basis_points=None, asks=None) -> Window:
    hours = Hours(days=frozenset(days), starts_minute=starts, ends_minute=ends)
    return Window(hours=hours, basis_points=basis_points, asks=asks or {})


class TestAsks:
    async def test_units_that_are_not_named_keep_their_ask(self, sessions, offer):
        kept = await change(sessions, set_unit_asks, offer, asks={COMPLETION: 7, REQUEST: 9})
        assert (await terms_of(sessions, offer)).asks == {PROMPT: 100, COMPLETION: 7, REQUEST: 9}
        assert (kept.ask_prompt_nano_usd, kept.ask_completion_nano_usd) == (100, 7)

    async def test_none_leaves_the_price_to_the_rate_card(self, sessions, offer):
        kept = await change(sessions, set_asks, offer, ask_prompt_nano_usd=None, ask_completion_nano_usd=5)
        assert (await terms_of(sessions, offer)).asks == {COMPLETION: 5}
        assert kept.ask_prompt_nano_usd is None

    async def test_an_ask_above_the_cap_is_refused_with_both(self, sessions, offer, revision):
        await cap(sessions, revision.model_id, PROMPT, 150)
        with pytest.raises(InvalidRequest, match=r"ask of 151 nano-USD for token.prompt .* cap of 150"):
            await change(sessions, set_unit_asks, offer, asks={PROMPT: 151})
        await change(sessions, set_unit_asks, offer, asks={PROMPT: 150})

    async def test_an_offer_is_not_opened_above_the_cap(self, sessions, revision):
        await cap(sessions, revision.model_id, COMPLETION, 10)
        async with session_scope(sessions) as session:
            provider = await make_provider(session)
        with pytest.raises(InvalidRequest, match="above the cap of 10"):
            async with session_scope(sessions) as session:
                await open_offer(
                    session,
                    provider_id=provider.id,
                    revision_id=revision.id,
                    ask_prompt_nano_usd=1,
                    ask_completion_nano_usd=11,
                )

    async def test_an_ask_below_the_floor_is_refused_with_both(self, sessions, offer):
        await change(sessions, set_floors, offer, floors={PROMPT: 80})
        with pytest.raises(InvalidRequest, match=r"ask of 79 .* below the offer's floor of 80"):
            await change(sessions, set_unit_asks, offer, asks={PROMPT: 79})

    @pytest.mark.parametrize("wrong", [-1, 1_000_000_001, 2**63, 0.5, float("nan"), True, "7"])
    async def test_what_is_no_price_is_refused(self, sessions, offer, wrong):
        with pytest.raises(InvalidRequest, match="no whole number from 0 to 1000000000"):
            await change(sessions, set_unit_asks, offer, asks={REQUEST: wrong})

    async def test_asks_and_floor_set_at_once_cannot_cross(self, sessions, offer):
        """Both lock the offer; whichever comes second sees the first."""

        async def attempt(setter, **values) -> bool:
            try:
                await change(sessions, setter, offer, **values)
            except InvalidRequest:
                return False
            return True

        done = await asyncio.gather(
            attempt(set_unit_asks, asks={PROMPT: 50}), attempt(set_floors, floors={PROMPT: 90})
        )
        assert sum(done) == 1


class TestFloors:
    async def test_a_floor_above_the_ask_is_refused_with_both(self, sessions, offer):
        with pytest.raises(InvalidRequest, match=r"floor of 101 .* above the offer's ask of 100"):
            await change(sessions, set_floors, offer, floors={PROMPT: 101})
        await change(sessions, set_floors, offer, floors={PROMPT: 100})
        assert (await terms_of(sessions, offer)).floors == {PROMPT: 100}

    async def test_a_floor_without_an_ask_waits_for_the_rate_card(self, sessions, offer):
        await change(sessions, set_floors, offer, floors={REQUEST: 5})
        terms = await terms_of(sessions, offer)
        assert (REQUEST in terms.asks, terms.floors[REQUEST]) == (False, 5)

    async def test_a_floor_above_the_cap_is_refused(self, sessions, offer, revision):
        await cap(sessions, revision.model_id, REQUEST, 4)
        with pytest.raises(InvalidRequest, match="floor of 5 nano-USD for request is above the cap of 4"):
            await change(sessions, set_floors, offer, floors={REQUEST: 5})

    async def test_zero_is_no_floor(self, sessions, offer):
        await change(sessions, set_floors, offer, floors={PROMPT: 80})
        await change(sessions, set_floors, offer, floors={PROMPT: 0})
        assert (await terms_of(sessions, offer)).floors == {}


class TestWindows:
    async def test_they_are_kept_as_they_were_set_and_replaced_whole(self, sessions, offer):
        night = window({1, 5}, 1_320, 360, basis_points=5_000)
        noon = window({3}, 720, 780, asks={PROMPT: 90})
        await change(sessions, set_windows, offer, windows=[night, noon])
        assert (await terms_of(sessions, offer)).windows == (night, noon)
        await change(sessions, set_windows, offer, windows=[noon])
        assert (await terms_of(sessions, offer)).windows == (noon,)
        await change(sessions, set_windows, offer, windows=[])
        assert (await terms_of(sessions, offer)).windows == ()

    async def test_overlapping_hours_are_refused_and_both_are_named(self, sessions, offer):
        night, early = window({7}, 1_320, 360, basis_points=1), window({1}, 300, 400, basis_points=2)
        with pytest.raises(InvalidRequest) as refusal:
            await change(sessions, set_windows, offer, windows=[night, early])
        assert refusal.value.message == (
            "Monday 05:00-06:40 UTC overlaps Sunday 22:00-06:00 UTC; a moment has one price"
        )
        assert refusal.value.param == "windows[1]"

    @pytest.mark.parametrize(
        ("wrong", "match"),
        [
            (window({0}, 0, 60, basis_points=1), "no days of a week"),
            (window({8}, 0, 60, basis_points=1), "no days of a week"),
            (window(set(), 0, 60, basis_points=1), "no days of a week"),
            (window({1}, -1, 60, basis_points=1), "outside 0 to 1440"),
            (window({1}, 1_440, 60, basis_points=1), "outside 0 to 1440"),
            (window({1}, 0, 1_441, basis_points=1), "outside 0 to 1440"),
            (window({1}, 60, 60, basis_points=1), "are no time"),
            (window({1}, 0, 60), "either a share"),
            (window({1}, 0, 60, basis_points=1, asks={PROMPT: 1}), "either a share"),
            (window({1}, 0, 60, basis_points=0), "outside 1 to 100000"),
            (window({1}, 0, 60, basis_points=100_001), "outside 1 to 100000"),
            (window({1}, 0, 60, basis_points=0.5), "outside 1 to 100000"),
            (window({1}, 0, 60, asks={PROMPT: -1}), "no whole number"),
            (window({1}, 0, 60, asks={PROMPT: float("nan")}), "no whole number"),
        ],
    )
    async def test_what_is_no_window_is_refused(self, sessions, offer, wrong, match):
        with pytest.raises(InvalidRequest, match=match) as refusal:
            await change(sessions, set_windows, offer, windows=[wrong])
        assert refusal.value.param == "windows[0]"

    async def test_a_window_below_the_floor_or_above_the_cap_is_refused(self, sessions, offer, revision):
        await change(sessions, set_floors, offer, floors={PROMPT: 80})
        with pytest.raises(InvalidRequest, match=r"ask of 79 .* floor of 80"):
            await change(sessions, set_windows, offer, windows=[window({1}, 0, 60, asks={PROMPT: 79})])
        await cap(sessions, revision.model_id, COMPLETION, 310)
        with pytest.raises(InvalidRequest, match=r"window's ask of 600 .* cap of 310"):
            await change(sessions, set_windows, offer, windows=[window({1}, 0, 60, basis_points=20_000)])

    async def test_there_is_a_limit_to_windows(self, sessions, offer):
        many = [window({1}, minute, minute + 1, basis_points=1) for minute in range(WINDOWS_MAX + 1)]
        with pytest.raises(InvalidRequest, match="51 windows are over the limit of 50"):
            await change(sessions, set_windows, offer, windows=many)

    @pytest.mark.parametrize(
        "values",
        ["'{8}', 0, 60", "'{}', 0, 60", "'{1}', 60, 60", "'{1}', -1, 60", "'{1}', 0, 1441"],
    )
    async def test_the_database_refuses_them_too(self, sessions, offer, values):
        statement = f"insert into offer_window (id, offer_id, days, starts_minute, ends_minute) values (gen_random_uuid(), '{offer.id}', {values})"
        with pytest.raises(Exception, match="ck_offer_window"):
            async with session_scope(sessions) as session:
                await session.execute(text(statement))
