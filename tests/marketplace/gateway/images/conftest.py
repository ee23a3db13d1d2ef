"""A gateway per test that sells pictures."""

from collections.abc import AsyncIterator

import pytest

from support.image_market import ImageMarket, image_market


@pytest.fixture
async def market(sessions, pool, tmp_path) -> AsyncIterator[ImageMarket]:
    async with image_market(sessions, pool, tmp_path) as market:
        yield market
