"""Fixtures of billing: a pool as the gateway has one, and a customer with a provider."""

from collections.abc import AsyncIterator

import pytest

from raymart_billing.connections import Pool, make_pool
from support.books import Books


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to the session's database, up to 20 at once."""
    async with make_pool(database_url, size_max=20, name="test") as pool:
        yield pool


@pytest.fixture
def books(pool: Pool) -> Books:
    """A customer and a provider nobody else uses."""
    return Books(pool)
