"""Places to spill to."""

import pytest

from raymart_billing.spill import Journal, Spill, SpillStream
from raymart_core.ids import new_id


@pytest.fixture
async def stream(redis_server):
    stream = SpillStream(redis_server.url, key=f"test:{new_id()}")
    yield stream
    await stream.aclose()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "spill"


@pytest.fixture
async def spill(directory, stream):
    spill = Spill(journal=Journal(directory, bytes_max=10_000_000), stream=stream)
    yield spill
    await spill.aclose()
