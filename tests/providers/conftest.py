import pytest
import uvloop

from support.link_market import link_market, make_supply


def pytest_asyncio_loop_factories(config, item):
    """The loop that both ends run on in production; its transports differ from asyncio's own."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def supply(sessions):
    return await make_supply(sessions)


@pytest.fixture
async def market(sessions):
    async with link_market(sessions) as market:
        yield market
