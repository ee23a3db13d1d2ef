import pytest

from support.link_market import link_market, make_supply


@pytest.fixture
async def supply(sessions):
    return await make_supply(sessions)


@pytest.fixture
async def market(sessions):
    async with link_market(sessions) as market:
        yield market
