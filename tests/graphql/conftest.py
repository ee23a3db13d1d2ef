"""One API of the control plane on a port for all tests of this folder; each test brings tenants of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from raymart_local.redis import EmbeddedRedis
from support.api_server import Api, Seller, Tenant, api_server, control_settings
from support.scripted_replica import Exchange, ScriptedReplica


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the async tests of this folder in one event loop, where their API lives: starting one takes half a second."""
    for item in items:
        if Path(__file__).parent in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(database_url: str, redis_server: EmbeddedRedis) -> AsyncIterator[Api]:
    """A running control plane, in development mode."""
    async with api_server(control_settings(database_url, redis_url=redis_server.url)) as api:
        yield api


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def strict_api(database_url: str, redis_server: EmbeddedRedis) -> AsyncIterator[Api]:
    """As in production: what the platform's people change, and where money goes, asks for a second factor."""
    settings = control_settings(database_url, require_second_factor=True, redis_url=redis_server.url)
    async with api_server(settings) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def customer(api: Api) -> Tenant:
    """A customer with a person for each role."""
    return await api.tenant()


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(api: Api) -> Tenant:
    """Another customer."""
    return await api.tenant()


@pytest_asyncio.fixture(loop_scope="session")
async def seller(api: Api) -> Seller:
    """A provider with an open offer, off line."""
    return await api.seller()


@pytest_asyncio.fixture(loop_scope="session")
async def replica(api: Api, seller: Seller) -> AsyncIterator[ScriptedReplica]:
    """The seller's replica, on line; it answers what its script says."""

    async def answer(exchange: Exchange) -> None:
        exchange.prompt()
        for _ in range(exchange.request.sampling.max_tokens):
            exchange.step()
        exchange.finish(revision=seller.digest)

    async with ScriptedReplica(answer) as replica:
        await api.serve(seller, replica)
        yield replica
        api.retire(seller)
