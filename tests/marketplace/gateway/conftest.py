"""A gateway per test, with its own customer, model and providers."""

from collections.abc import AsyncIterator

import pytest

from raymart_billing.connections import Pool, make_pool
from support.gateway_market import GatewayMarket, gateway_market


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, size_max=10, name="gateway-test") as pool:
        yield pool


@pytest.fixture
async def market(sessions, pool) -> AsyncIterator[GatewayMarket]:
    async with gateway_market(sessions, pool) as market:
        yield market
