"""A stream whose gateway dies is billed for what was delivered up to its last checkpoint, once."""

import asyncio
from contextlib import asynccontextmanager

import psycopg
import pytest
from msgspec.structs import replace

from raymart_billing.connections import make_pool
from raymart_billing.posting import LedgerUsageSink, recover_checkpoints, sweep_usage
from raymart_billing.records import encode
from raymart_core.ids import new_id
from support.books import price

PERIOD_S = 0.05


class Stream:
    """A running request of the books' customer."""

    def __init__(self, books):
        self.books = books
        self.id = new_id()
        self.tokens_delivered = 0
        self.asked = 0

    def record(self, **changes):
        request = self.books.finished(tokens_completion=self.tokens_delivered, id=self.id)
        return replace(request, **changes)

    def if_lost(self):
        self.asked += 1
        return self.record(state="failed", error_code="gateway_lost")


@pytest.fixture
async def gateway(pool, database_url):
    """A registered gateway's id; dead unless `living` is entered."""
    gateway_id = new_id()
    async with pool.connection() as connection:
        await connection.execute("select gateway_register(%s)", (gateway_id,))
    return gateway_id


@pytest.fixture
def living(gateway, database_url):
    @asynccontextmanager
    async def living():
        async with make_pool(database_url, size_max=1) as own, own.connection() as connection:
            await connection.execute(
                "select pg_advisory_lock(gateway_lock_class(), (select number from gateway where id = %s))",
                (gateway,),
            )
            yield

    return living


@pytest.fixture
async def sink(pool, gateway):
    sink = LedgerUsageSink(pool, record_timeout_s=10, gateway_id=gateway, checkpoint_period_s=PERIOD_S)
    await sink.start()
    yield sink
    await sink.stop()


@pytest.fixture
def young(monkeypatch):
    """Streams of any age are checkpointed."""
    monkeypatch.setattr("raymart_billing.posting.checkpoints.AGE_S_MIN", 0.0)


async def saved(books, stream) -> int:
    return await books.value("select count(*) from usage_checkpoint where request_id = %s", stream.id)


async def wait_for(books, stream, *, asked: int) -> None:
    async with asyncio.timeout(30):
        while stream.asked < asked or not await saved(books, stream):
            await asyncio.sleep(0.01)


async def recover(pool) -> int:
    async with pool.connection() as connection:
        return await recover_checkpoints(connection, grace_s=0)


async def bill(books, stream) -> list:
    return await books.fetch(
        "select r.state, r.error_code, u.tokens_completion from request r left join usage_record u on u.id = r.id"
        " where r.id = %s",
        stream.id,
    )


@pytest.mark.usefixtures("young")
class TestCheckpoint:
    async def test_a_stream_that_moves_is_saved_again_and_one_that_stands_is_not(self, sink, books):
        stream = Stream(books)
        stream.tokens_delivered = 3
        sink.watch(stream)
        await wait_for(books, stream, asked=1)
        await asyncio.sleep(4 * PERIOD_S)
        assert stream.asked == 1
        stream.tokens_delivered = 4
        await wait_for(books, stream, asked=2)

    async def test_the_record_takes_the_checkpoint_with_it(self, sink, books):
        stream = Stream(books)
        stream.tokens_delivered = 3
        sink.watch(stream)
        await wait_for(books, stream, asked=1)
        await sink.record(stream.record())
        assert await saved(books, stream) == 0
        await asyncio.sleep(3 * PERIOD_S)
        assert await saved(books, stream) == 0

    async def test_a_record_that_was_refused_is_not_billed_by_its_checkpoint(self, sink, books):
        """Its customer was told that nothing is billed."""
        stream = Stream(books)
        stream.tokens_delivered = 3
        sink.watch(stream)
        await wait_for(books, stream, asked=1)
        with pytest.raises(psycopg.errors.NotNullViolation):
            await sink.record(replace(stream.record(), model_asked=None))
        async with asyncio.timeout(30):
            while await saved(books, stream):
                await asyncio.sleep(0.01)


class TestAge:
    async def test_a_stream_that_has_just_begun_is_left_alone(self, sink, books):
        stream = Stream(books)
        stream.tokens_delivered = 1
        sink.watch(stream)
        await asyncio.sleep(3 * PERIOD_S)
        assert stream.asked == 0


class TestRecovery:
    @pytest.fixture
    async def lost(self, books, gateway):
        """A checkpoint of 5 tokens."""
        stream = Stream(books)
        stream.tokens_delivered = 5
        await books.fetch(
            "insert into usage_checkpoint (request_id, gateway_id, record) values (%s, %s, %s)",
            stream.id, gateway, encode(stream.if_lost()),
        )  # fmt: skip
        return stream

    async def test_a_dead_gateways_stream_is_billed_for_what_was_delivered(self, lost, books, pool):
        await books.fund(10_000)
        await books.hold(lost.id, 500)
        assert await recover(pool) >= 1  # Other tests leave checkpoints too.
        assert await bill(books, lost) == [("failed", "gateway_lost", 5)]
        assert await saved(books, lost) == 0
        async with pool.connection() as connection:
            await sweep_usage(connection)
        assert await books.columns("customer_balance") == (price(lost.record()), 10_000, 0, 0)

    async def test_a_living_gateway_keeps_its_streams(self, lost, books, pool, living):
        async with living():
            await recover(pool)
            assert await bill(books, lost) == []
            assert await saved(books, lost) == 1
        async with asyncio.timeout(30):
            while not await recover(pool):
                await asyncio.sleep(0.05)

    async def test_a_checkpoint_that_is_young_is_left_alone(self, lost, books, pool):
        async with pool.connection() as connection:
            await recover_checkpoints(connection, grace_s=60)
        assert await bill(books, lost) == []

    async def test_a_gateway_that_comes_back_adds_nothing(self, lost, books, pool, sink):
        await recover(pool)
        lost.tokens_delivered = 50
        await sink.record(lost.record())
        assert await bill(books, lost) == [("failed", "gateway_lost", 5)]

    async def test_what_was_recorded_in_full_is_not_recovered(self, lost, books, pool, sink):
        lost.tokens_delivered = 50
        await sink.record(lost.record())  # Its sink does not know of the checkpoint.
        await recover(pool)
        assert await bill(books, lost) == [("completed", None, 50)]
        assert await saved(books, lost) == 0

    async def test_many_recoveries_at_once_bill_once(self, books, pool, gateway):
        streams = [Stream(books) for _ in range(30)]
        for stream in streams:
            stream.tokens_delivered = 5
            await books.fetch(
                "insert into usage_checkpoint (request_id, gateway_id, record) values (%s, %s, %s)",
                stream.id, gateway, encode(stream.if_lost()),
            )  # fmt: skip
        assert sum(await asyncio.gather(*[recover(pool) for _ in range(5)])) >= 30
        assert (
            await books.value(
                "select count(*) from usage_record where organization_id = %s", books.organization_id
            )
            == 30
        )

    async def test_a_checkpoint_that_cannot_be_read_is_set_aside_and_does_not_stop_the_others(
        self, lost, books, pool, gateway
    ):
        await books.fetch(
            "insert into usage_checkpoint (request_id, gateway_id, record) values (%s, %s, %s)",
            new_id(), gateway, b"\x01nonsense" + new_id().bytes,
        )  # fmt: skip
        await recover(pool)
        assert await bill(books, lost) == [("failed", "gateway_lost", 5)]
        assert await books.value("select count(*) from usage_checkpoint where gateway_id = %s", gateway) == 0
