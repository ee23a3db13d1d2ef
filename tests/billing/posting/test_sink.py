"""The sink: what was acknowledged is recorded; what was recorded is paid for."""

import asyncio

import psycopg
import pytest
from msgspec.structs import replace

from raymart_billing.posting import LedgerUsageSink
from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Money
from support.books import fetch, price


@pytest.fixture
async def sink(pool):
    sink = LedgerUsageSink(pool, record_timeout_s=10)
    await sink.start()
    yield sink
    await sink.stop()


class Dam:
    """Locks the table of requests, so that a writer stands before its COPY until the dam opens.

    As the superuser: the runtime's role may not lock a table.
    """

    def __init__(self, owner_url):
        self.owner_url = owner_url

    async def __aenter__(self):
        self.connection = await psycopg.AsyncConnection.connect(self.owner_url)
        await self.connection.execute("lock table request in access exclusive mode")
        return self

    async def writer_waits(self):
        """Return once a writer stands before the dam."""
        async with asyncio.timeout(30):
            while not await fetch(
                self.connection,
                "select 1 from pg_locks where not granted and relation = 'request'::regclass",
            ):
                await asyncio.sleep(0.005)

    async def __aexit__(self, *_):
        await self.connection.rollback()
        await self.connection.close()


@pytest.fixture
def dam(owner_url):
    return Dam(owner_url)


class TestRecord:
    async def test_all_three_tables_are_written_before_it_returns(self, sink, books):
        request = books.finished(streamed=False, user_id=new_id())
        await sink.record(request)

        [stored] = await books.fetch(
            "select organization_id, project_id, api_key_id, user_id, surface, model_asked, state, finish_reason,"
            " streamed, created_at, duration_ms from request where id = %s",
            request.id,
        )
        assert stored == (
            request.organization_id, request.project_id, request.api_key_id, request.user_id, "rest",
            "raymart/demo-chat", "completed", "stop", False, request.created_at, 40,
        )  # fmt: skip
        assert await books.fetch(
            "select position, endpoint_id, outcome, fault, tokens_delivered from attempt where request_id = %s",
            request.id,
        ) == [(0, request.attempts[0].endpoint_id, "delivered", "none", 20)]
        assert await books.fetch(
            "select tokens_prompt, tokens_completion, customer_nano_usd, provider_nano_usd, fee_nano_usd, exact"
            " from usage_record where id = %s",
            request.id,
        ) == [(10, 20, 120, 108, 12, True)]

    async def test_it_does_not_return_before_the_commit(self, sink, books, dam):
        async with dam:
            record = asyncio.create_task(sink.record(books.finished()))
            await dam.writer_waits()
            assert not record.done()
        await record

    async def test_every_try_of_a_request_is_kept_in_order(self, sink, books):
        first = books.finished(delivered=False).attempts[0]
        request = books.finished()
        request = replace(request, attempts=(first, *request.attempts))
        await sink.record(request)
        assert await books.fetch(
            "select id, position from attempt where request_id = %s order by position", request.id
        ) == [(first.id, 0), (request.attempts[1].id, 1)]

    async def test_a_repeat_is_a_no_op(self, sink, books):
        await books.fund(1_000)
        request = books.finished()
        for _ in range(3):
            await sink.record(request)
        await asyncio.gather(*[sink.record(request) for _ in range(5)])
        await sink.stop()
        assert await books.value("select count(*) from attempt where request_id = %s", request.id) == 1
        assert (await books.columns("customer_balance")).debits_posted == 120

    async def test_requests_that_finish_during_a_commit_share_the_next(self, sink, books, dam):
        requests = [books.finished() for _ in range(200)]
        async with dam:
            records = [asyncio.create_task(sink.record(requests[0]))]
            await dam.writer_waits()
            records += [asyncio.create_task(sink.record(request)) for request in requests[1:]]
        await asyncio.gather(*records)
        transactions = await books.value(
            "select count(distinct xmin::text) from request where organization_id = %s", books.organization_id
        )
        assert transactions == 2

    async def test_text_that_postgres_cannot_store_is_stored_without_it(self, sink, books):
        """A model's name comes from the customer's JSON, where \\u0000 and half surrogates are fine."""
        request = books.finished(model_asked="a\0b\ud800c")
        await sink.record(request)
        assert await books.value("select model_asked from request where id = %s", request.id) == "a?b?c"


class TestRefusedRecord:
    async def test_a_record_that_the_database_refuses_fails_alone(self, sink, books, dam):
        good = [books.finished() for _ in range(50)]
        bad = books.finished()
        bad = replace(bad, usage=replace(bad.usage, customer_amount=Money(1)))
        async with dam:
            first = asyncio.create_task(sink.record(books.finished()))
            await dam.writer_waits()
            records = [asyncio.create_task(sink.record(request)) for request in (*good[:20], bad, *good[20:])]
            await asyncio.sleep(0)  # Let each take its place in the queue behind the dam.
        outcomes = await asyncio.gather(first, *records, return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert len(refused) == 1
        assert "amount_is_usage_times_price" in str(refused[0])
        assert all([await books.is_recorded(request.id) for request in good])
        assert not await books.is_recorded(bad.id)

    async def test_the_writer_survives_a_bug_in_one_record(self, sink, books):
        with pytest.raises(psycopg.errors.NotNullViolation):
            await sink.record(replace(books.finished(), model_asked=None))
        with pytest.raises(TypeError):
            await sink.record(replace(books.finished(), model_asked=object()))
        await sink.record(books.finished())


class TestPosting:
    async def test_the_hold_is_captured_right_after(self, sink, books):
        request = books.finished()
        await books.fund(1_000)
        await books.hold(request.id, 500)
        await sink.record(request)
        await sink.stop()
        assert await books.columns("customer_balance") == (120, 1_000, 0, 0)
        assert (await books.columns("provider_payable")).balance == 108

    async def test_a_thousand_requests_at_once_cost_exactly_their_usage(self, sink, books):
        requests = [
            books.finished(tokens_completion=turn % 50, delivered=turn % 10 != 0) for turn in range(1_000)
        ]
        spent = sum(map(price, requests))
        await books.fund(1_000_000)
        for request in requests[1:10]:
            await books.hold(request.id, 1_000)
        await asyncio.gather(*[sink.record(request) for request in requests])
        await sink.stop()
        assert await books.columns("customer_balance") == (spent, 1_000_000, 0, 0)
        assert await books.columns("usage_clearing") == (spent, spent, 0, 0)


class TestCallersThatLeave:
    async def test_a_cancelled_caller_does_not_take_its_record_along(self, sink, books, dam):
        request = books.finished()
        async with dam:
            record = asyncio.create_task(sink.record(request))
            await dam.writer_waits()
            record.cancel()
            with pytest.raises(asyncio.CancelledError):
                await record
        await sink.stop()
        assert await books.is_recorded(request.id)

    async def test_nor_does_one_whose_record_was_still_queued(self, sink, books, dam):
        request = books.finished()
        async with dam:
            first = asyncio.create_task(sink.record(books.finished()))
            await dam.writer_waits()
            queued = asyncio.create_task(sink.record(request))
            await asyncio.sleep(0)
            queued.cancel()
            with pytest.raises(asyncio.CancelledError):
                await queued
        await first
        await sink.stop()
        assert await books.is_recorded(request.id)

    async def test_a_caller_that_gave_up_is_not_billed_for_what_was_still_queued(self, pool, books, dam):
        sink = LedgerUsageSink(pool, record_timeout_s=0.3)
        await sink.start()
        under_way, queued = books.finished(), books.finished()
        async with dam:
            first = asyncio.create_task(sink.record(under_way))
            await dam.writer_waits()
            second = asyncio.create_task(sink.record(queued))
            for record in (first, second):
                with pytest.raises(Unavailable, match="no commit within"):
                    await record
        await sink.stop()
        assert await books.is_recorded(under_way.id)  # In doubt when its caller gave up; it went through.
        assert not await books.is_recorded(queued.id)


class TestLimits:
    async def test_a_full_queue_refuses_at_once(self, pool, books, dam):
        sink = LedgerUsageSink(pool, record_timeout_s=10, queue_max=1)
        await sink.start()
        async with dam:
            records = [asyncio.create_task(sink.record(books.finished()))]
            await dam.writer_waits()
            records.append(asyncio.create_task(sink.record(books.finished())))
            await asyncio.sleep(0)
            with pytest.raises(Unavailable, match="1 records are waiting already"):
                await sink.record(books.finished())
        await asyncio.gather(*records)
        await sink.stop()

    async def test_before_start_and_after_stop_nothing_is_taken(self, pool, books):
        sink = LedgerUsageSink(pool, record_timeout_s=1)
        with pytest.raises(Unavailable, match="not running"):
            await sink.record(books.finished())
        await sink.start()
        await sink.stop()
        await sink.stop()
        with pytest.raises(Unavailable, match="not running"):
            await sink.record(books.finished())

    async def test_stop_writes_what_is_at_hand(self, sink, books, dam):
        requests = [books.finished() for _ in range(30)]
        async with dam:
            records = [asyncio.create_task(sink.record(request)) for request in requests]
            await dam.writer_waits()
            stop = asyncio.create_task(sink.stop())
            await asyncio.sleep(0)
        await asyncio.gather(stop, *records)
        assert all([await books.is_recorded(request.id) for request in requests])

    async def test_a_stop_that_takes_too_long_refuses_what_is_left(self, sink, books, dam):
        async with dam:
            records = [asyncio.create_task(sink.record(books.finished()))]
            await dam.writer_waits()
            records.append(asyncio.create_task(sink.record(books.finished())))
            await asyncio.sleep(0)
            await sink.stop(timeout_s=0.1)
            outcomes = await asyncio.gather(*records, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
