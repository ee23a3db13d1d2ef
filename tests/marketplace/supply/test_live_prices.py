"""The gateway's prices are right at each moment, without a look at the database at that moment."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from raymart_core.ports import Prices
from raymart_core.units import Unit
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions, session_scope
from raymart_marketplace.pricing import service as pricing
from raymart_marketplace.pricing.book import database_now
from raymart_marketplace.pricing.effective import OfferTerms, Sold
from raymart_marketplace.supply import live_prices
from raymart_marketplace.supply.live_prices import LivePrices, PriceTag
from support.market import make_provider, make_revision

ASKS = {Unit.TOKEN_PROMPT: 100, Unit.TOKEN_COMPLETION: 300}
TERMS = OfferTerms(asks=ASKS)


@dataclass
class Offered:
    """What prices are made for."""

    sold: Sold
    terms: OfferTerms = TERMS

    @property
    def offer_id(self) -> UUID:
        return self.sold.revision_id


@pytest.fixture
async def sold(sessions: Sessions) -> Sold:
    async with session_scope(sessions) as session:
        revision, provider = await make_revision(session), await make_provider(session)
        return Sold(
            model_id=revision.model_id,
            revision_id=revision.id,
            provider_id=provider.id,
            modality=Modality.CHAT,
        )


@pytest.fixture
async def prices(sessions: Sessions) -> LivePrices:
    made = LivePrices(fee_basis_points=1_000)
    async with session_scope(sessions) as session:
        await made.load(session)
    return made


class MonotonicClock:
    """The machine's monotonic clock, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 1_000.0
        monkeypatch.setattr(live_prices.time, "monotonic", lambda: self.passed)


async def publish(session: AsyncSession, sold: Sold, **changes) -> None:
    await pricing.publish_rate_card(session, model_id=sold.model_id, actor_id=None, **changes)


class TestLivePrices:
    async def test_a_scheduled_change_takes_effect_without_the_database(self, sessions, sold, monkeypatch):
        clock, prices = MonotonicClock(monkeypatch), LivePrices(fee_basis_points=1_000)
        async with session_scope(sessions) as session:
            starts = await database_now(session) + timedelta(minutes=1)
            await publish(session, sold, prices={Unit.REQUEST: 5}, effective_from=starts)
            await pricing.set_fee_schedule(
                session, basis_points=7, model_id=sold.model_id, reason="x", actor_id=None,
                effective_from=starts + timedelta(minutes=1),
            )  # fmt: skip
        async with session_scope(sessions) as session:
            await prices.load(session)
        tag = PriceTag()

        def now():
            price = prices.price(tag, Offered(sold))
            return price.prices.request, price.fee_basis_points

        assert now() == (0, 1_000)
        clock.passed += 20
        assert now() == (0, 1_000)
        clock.passed += 40
        assert now() == (5, 1_000)
        clock.passed += 60
        assert now() == (5, 7)

    async def test_the_price_is_kept_until_its_edge(self, prices, sold):
        """The hot path: no price is made anew while nothing has changed."""
        tag = PriceTag()
        first = prices.price(tag, Offered(sold))
        assert prices.price(tag, Offered(sold)) is first

    async def test_a_new_book_prices_anew(self, prices, sold, sessions):
        tag = PriceTag()
        assert prices.price(tag, Offered(sold)).prices == Prices(
            token_prompt=100, token_completion=300, token_cached=100
        )
        async with session_scope(sessions) as session:
            await pricing.set_price_cap(
                session, unit=Unit.TOKEN_PROMPT, max_nano_usd=60, model_id=sold.model_id, reason="x", actor_id=None
            )  # fmt: skip
        async with session_scope(sessions) as session:
            await prices.load(session)
        price = prices.price(tag, Offered(sold))
        assert price.prices.token_prompt == 60

    async def test_its_clock_is_the_databases(self, prices, sessions):
        async with session_scope(sessions) as session:
            before, ours, after = await database_now(session), prices.now(), await database_now(session)
        tolerance = timedelta(seconds=1)
        assert before - tolerance <= ours <= after + tolerance

    async def test_an_unsellable_offer_is_told_of_once(self, prices, sold):
        nothing = OfferTerms()
        with capture_logs() as told:
            for terms in (nothing, nothing, TERMS, nothing):
                prices.price(PriceTag(), Offered(sold, terms))
        assert [one["event"] for one in told if one["event"].startswith("offer.")] == [
            "offer.unsellable", "offer.sellable", "offer.unsellable"
        ]  # fmt: skip

    async def test_the_last_book_stays_while_the_database_is_away(self, prices, sold):
        engine = make_engine("postgresql://raymart:x@127.0.0.1:1/raymart", pool_size=1)
        with pytest.raises(Exception, match="connection"):
            async with asyncio.timeout(30), session_scope(make_sessions(engine)) as session:
                await prices.load(session)
        await engine.dispose()
        assert prices.price(PriceTag(), Offered(sold)).prices is not None
