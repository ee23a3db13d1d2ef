"""A gateway per test that sells vectors."""

from collections.abc import AsyncIterator

import pytest

from support.vector_market import VectorMarket, vector_market


@pytest.fixture
async def market(sessions, pool) -> AsyncIterator[VectorMarket]:
    async with vector_market(sessions, pool) as market:
        yield market
