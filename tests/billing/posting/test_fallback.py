"""PostgreSQL goes away for longer than a moment: replies end all the same, and each is billed once when it is back."""

import asyncio
import time

import pytest

from raymart_billing.connections import make_pool
from raymart_billing.posting import LedgerUsageSink
from raymart_billing.spill import Journal, Spill
from raymart_billing.spill.journal import segments
from raymart_core.errors import Unavailable
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from support.books import Books, price


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of this module's own, for it is stopped."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    upgrade(server.start())
    yield server
    server.destroy()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "spill"


@pytest.fixture
async def pool(server):
    await asyncio.to_thread(server.start)
    async with make_pool(server.url, size_max=6) as pool:
        yield pool
    await asyncio.to_thread(server.start)


@pytest.fixture
def books(pool):
    return Books(pool)


async def running_sink(pool, spill, **options) -> LedgerUsageSink:
    sink = LedgerUsageSink(pool, **{"record_timeout_s": 20, **options}, spill=spill)
    await sink.start()
    return sink


@pytest.fixture
async def spill(directory):
    spill = Spill(journal=Journal(directory, bytes_max=10_000_000), stream=None)
    yield spill
    await spill.aclose()


async def until(condition, *, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.05)


class TestOutage:
    async def test_records_are_acknowledged_in_time_and_billed_once_after(
        self, *, server, pool, books, spill, directory
    ):
        await books.fund(10**9)
        sink = await running_sink(pool, spill)
        requests = [books.finished(tokens_completion=turn) for turn in range(1, 40)]
        for request in requests:
            await books.hold(request.id, 1_000, ttl="5 minutes")
        before, during, after = requests[:10], requests[10:30], requests[30:]
        await asyncio.gather(*[sink.record(request) for request in before])
        await asyncio.to_thread(server.stop, "immediate")

        begun = time.monotonic()
        await sink.record(during[0])
        first_s = time.monotonic() - begun
        begun = time.monotonic()
        await asyncio.gather(*[sink.record(request) for request in during[1:]])
        others_s = time.monotonic() - begun
        assert len(segments(directory)) == 1

        await asyncio.to_thread(server.start)
        await asyncio.gather(*[sink.record(request) for request in after])

        async def all_are_posted():
            return await books.value("select count(*) from usage_record where posted_at is not null") == 39

        await until(all_are_posted)
        await sink.stop()
        assert await books.columns("customer_balance") == (sum(map(price, requests)), 10**9, 0, 0)
        assert segments(directory) == []
        assert first_s < 15
        assert others_s < 15

    async def test_stop_during_an_outage_keeps_what_is_at_hand(
        self, *, server, pool, books, spill, directory
    ):
        sink = await running_sink(pool, spill)
        await asyncio.to_thread(server.stop, "immediate")
        records = [asyncio.create_task(sink.record(books.finished())) for _ in range(20)]
        await asyncio.sleep(0)
        await sink.stop()
        await asyncio.gather(*records)
        assert len(segments(directory)) == 1

    async def test_where_nothing_can_be_kept_it_is_unavailable_as_without(
        self, server, pool, books, tmp_path
    ):
        (tmp_path / "blocked").write_text("no folder")
        spill = Spill(journal=Journal(tmp_path / "blocked", bytes_max=10_000_000), stream=None)
        sink = await running_sink(pool, spill, record_timeout_s=2.5)
        await asyncio.to_thread(server.stop, "immediate")
        with pytest.raises(Unavailable, match="no commit within"):
            await sink.record(books.finished())
        await asyncio.to_thread(server.start)
        sink._record_timeout_s = 20
        await sink.record(books.finished())
        await sink.stop()
        await spill.aclose()


class TestLeftovers:
    async def test_what_a_process_left_is_drained_by_the_next_at_its_start(
        self, *, pool, books, spill, directory
    ):
        await spill.keep([books.finished()])
        await spill.seal()
        sink = await running_sink(pool, spill)

        async def nothing_is_left():
            return not segments(directory)

        await until(nothing_is_left)
        await sink.stop()
        posted = "select count(*) from usage_record where organization_id = %s and posted_at is not null"
        assert await books.value(posted, books.organization_id) == 1
