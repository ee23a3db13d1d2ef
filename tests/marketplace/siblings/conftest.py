import pytest
import uvloop

from support.link_market import make_supply, sibling_markets


def pytest_asyncio_loop_factories(config, item):
    """The loop of production: what it does with a socket that breaks is part of what is tested."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def supply(sessions):
    return await make_supply(sessions)


@pytest.fixture
async def markets(sessions):
    """Two processes' worth of marketplace that know each other: nodes of these tests come to the first."""
    async with sibling_markets(sessions) as markets:
        yield markets
