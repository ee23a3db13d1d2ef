"""A chain of this test's own, and a market around it."""

from collections.abc import AsyncIterator

import pytest

from raymart_marketplace.db.session import Sessions
from support.usdc_market import UsdcCustomer, UsdcMarket


@pytest.fixture
async def usdc(sessions: Sessions, database_url: str) -> AsyncIterator[UsdcMarket]:
    """Our side of the USDC rail, on the session's database and a new chain."""
    market = UsdcMarket(sessions=sessions, database_url=database_url)
    yield market
    await market.aclose()


@pytest.fixture
async def customer(usdc: UsdcMarket) -> UsdcCustomer:
    """A customer nobody else uses."""
    return await usdc.customer()
