"""A customer with shorthand for its money; Stripe is not asked here. The checks look at all customers and budgets."""

from collections.abc import AsyncIterator

import pytest

from raymart_marketplace.db.session import Sessions
from support.card_market import CardCustomer, CardMarket
from support.fake_stripe import FakeStripe
from support.own_database import database_url, owner_url

__all__ = ["database_url", "owner_url"]


@pytest.fixture
async def market(sessions: Sessions, owner_url: str) -> AsyncIterator[CardMarket]:
    """Our side of the card rail, on the file's database."""
    with FakeStripe() as stripe:
        market = CardMarket(sessions, stripe, owner_url=owner_url)
        yield market
        market.close()


@pytest.fixture
async def customer(market: CardMarket) -> CardCustomer:
    """A customer nobody else uses."""
    return await market.customer()
