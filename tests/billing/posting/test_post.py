"""The poster: recorded usage becomes money once, whoever posts it and however often."""

import asyncio

import psycopg
import pytest
from msgspec.structs import replace

from raymart_billing.holds import sweep_holds
from raymart_billing.posting import post, post_requests, post_usage, sweep_usage
from raymart_billing.records.copying import copy_requests
from raymart_core.ids import new_id
from support.books import Books, price


@pytest.fixture
async def connection(pool):
    async with pool.connection() as connection:
        await sweep_usage(connection)  # What earlier tests left.
        yield connection


async def recorded(connection, books, *requests):
    """Write `requests` with a hold each, as a gateway does, but do not post them."""
    if funds := sum(map(price, requests)):
        await books.fund(funds)
    for request in requests:
        if price(request):
            await books.hold(request.id, price(request))
    await copy_requests(connection, requests, may_exist=False)


async def are_posted(books, *requests):
    rows = await books.fetch(
        "select posted_at is not null from usage_record where id = any(%s)",
        [request.id for request in requests],
    )
    return [posted for (posted,) in rows]


class TestPostUsage:
    async def test_usage_is_charged_paid_and_marked(self, connection, books):
        request = books.finished(tokens_prompt=10, tokens_completion=20)
        await recorded(connection, books, request)

        assert await post_usage(connection, limit=1_000) == 1
        assert await are_posted(books, request) == [True]
        assert await books.columns("customer_balance") == (120, 120, 0, 0)
        assert (await books.columns("provider_payable")).balance == 108

    async def test_a_second_run_finds_nothing(self, connection, books):
        await recorded(connection, books, books.finished())
        await post_usage(connection)
        before = await books.columns("customer_balance")
        assert await post_usage(connection) == 0
        assert await books.columns("customer_balance") == before

    async def test_named_again_it_is_neither_posted_nor_marked_again(self, connection, books):
        request = books.finished()
        await recorded(connection, books, request)
        assert await post_requests(connection, [request.id]) == 1
        posted_at = "select posted_at from usage_record where id = %s"
        first = await books.value(posted_at, request.id)
        assert await post_requests(connection, [request.id]) == 0
        assert await books.value(posted_at, request.id) == first

    async def test_no_more_than_the_limit_and_the_oldest_first(self, connection, books):
        requests = [books.finished() for _ in range(5)]
        await recorded(connection, books, *requests)
        assert await post_usage(connection, limit=3) == 3
        assert await are_posted(books, *requests[:3]) == [True] * 3
        assert await post_usage(connection) == 2

    async def test_mark_and_money_are_one(self, connection, books):
        """A caller that rolls back has posted nothing, on either side."""
        request = books.finished()
        await recorded(connection, books, request)
        async with connection.transaction(force_rollback=True):
            assert await post_usage(connection) == 1
        assert await are_posted(books, request) == [False]
        assert (await books.columns("customer_balance")).debits_posted == 0

    async def test_free_usage_is_marked_and_moves_nothing(self, connection, books):
        request = books.finished(tokens_prompt=0, tokens_completion=0)
        await recorded(connection, books, request)
        assert await post_usage(connection) == 1
        assert await books.states_of(request.id) == []

    async def test_an_expired_hold_does_not_cost_the_provider(self, connection, books):
        request = books.finished()
        await books.fund(price(request))
        await books.hold(request.id, price(request), "1 microsecond")
        await sweep_holds(connection)
        await copy_requests(connection, [request], may_exist=False)

        await post_usage(connection)
        assert (await books.columns("provider_payable")).balance == 108
        assert await books.columns("customer_balance") == (120, 120, 0, 0)


class TestManyPosters:
    async def test_six_at_once_post_each_usage_once(self, pool, connection, books):
        requests = [books.finished() for _ in range(300)]
        await recorded(connection, books, *requests)

        async def sweep():
            async with pool.connection() as own:
                return await sweep_usage(own)

        assert sum(await asyncio.gather(*[sweep() for _ in range(6)])) == 300
        assert await books.columns("customer_balance") == (300 * 120, 300 * 120, 0, 0)
        assert (await books.columns("provider_payable")).balance == 300 * 108

    async def test_what_another_poster_has_at_hand_is_passed_over_not_waited_for(
        self, owner_url, connection, books
    ):
        requests = [books.finished() for _ in range(2)]
        await recorded(connection, books, *requests)
        async with await psycopg.AsyncConnection.connect(owner_url) as other:
            await other.execute("select from usage_record where id = %s for update", (requests[0].id,))
            async with asyncio.timeout(20):
                assert await post_requests(connection, [request.id for request in requests]) == 1
        assert await are_posted(books, *requests) == [False, True]


class TestRefusedUsage:
    async def test_one_that_the_ledger_refuses_holds_up_no_other(self, pool, connection, books, monkeypatch):
        """Its hold is of other accounts than its usage: a bug elsewhere that must not stop the books."""
        monkeypatch.setattr(post, "USAGES_PER_POST_MAX", 4)
        stranger = Books(pool)
        requests = [books.finished() for _ in range(20)]
        await recorded(connection, books, *requests[:7], *requests[8:])
        wrong = replace(requests[7], id=new_id())
        await stranger.fund(1_000)
        await stranger.hold(wrong.id, 500)
        await copy_requests(connection, [wrong], may_exist=False)

        assert await sweep_usage(connection) == 19
        assert await are_posted(books, wrong) == [False]
        assert await books.columns("customer_balance") == (19 * 120, 19 * 120, 0, 0)

        # Once its cause is gone, the next sweep posts it.
        await stranger.value("select ledger_void_hold(%s)", f"hold:{wrong.id}")
        await books.fund(120)
        assert await sweep_usage(connection) == 1
