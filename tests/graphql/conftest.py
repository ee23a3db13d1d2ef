"""The API of the control plane on a port, for each test anew."""

from collections.abc import AsyncIterator

import pytest

from support.api_server import Api, Seller, Tenant, api_server, control_settings
from support.scripted_replica import Exchange, ScriptedReplica


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    """A running control plane, in development mode."""
    async with api_server(control_settings(database_url)) as api:
        yield api


@pytest.fixture
async def customer(api: Api) -> Tenant:
    """A customer with a person for each role."""
    return await api.tenant()


@pytest.fixture
async def stranger(api: Api) -> Tenant:
    """Another customer."""
    return await api.tenant()


@pytest.fixture
async def seller(api: Api) -> Seller:
    """A provider with an open offer, off line."""
    return await api.seller()


@pytest.fixture
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
