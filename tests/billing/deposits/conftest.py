"""A Stripe of this test's own, and a market around it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from raymart_marketplace.db.session import Sessions
from support.card_market import CardCustomer, CardMarket
from support.fake_stripe import FakeStripe


@pytest.fixture
def stripe_server() -> Iterator[FakeStripe]:
    """Nobody has an account with it yet."""
    with FakeStripe() as server:
        yield server


@pytest.fixture
async def market(sessions: Sessions, stripe_server: FakeStripe) -> AsyncIterator[CardMarket]:
    """Our side of the card rail, on the session's database."""
    market = CardMarket(sessions, stripe_server)
    yield market
    market.close()


@pytest.fixture
async def customer(market: CardMarket) -> CardCustomer:
    """A customer nobody else uses."""
    return await market.customer()
