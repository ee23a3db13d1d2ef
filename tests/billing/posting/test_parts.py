"""A request that several providers delivered: one bill, each provider paid, counted once, whichever way it was written."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from raymart_billing.posting import LedgerUsageSink, post_requests, sweep_usage
from raymart_billing.records import BatchStatement, RecordOrigin, copy_requests, encode, restore
from raymart_billing.records.part_ids import usage_part_id
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.ports import Prices, Quantities
from support.books import Books, continued, price
from support.leases import LeaseDesk


@pytest.fixture
async def connection(pool):
    async with pool.connection() as connection:
        await sweep_usage(connection)  # What earlier tests left.
        yield connection


@pytest.fixture
async def funded(books):
    await books.fund(10**9)
    return books


async def by_statement(connection, requests):
    await BatchStatement().record(connection, requests, forget_checkpoints=False)
    await connection.execute("deallocate raymart_usage_record_batch")  # The next one prepares its own.


async def by_copy(connection, requests):
    await copy_requests(connection, requests, may_exist=True)


async def by_spill(connection, requests):
    restored = await restore(
        connection, [encode(request) for request in requests], origin=RecordOrigin.STREAM
    )
    assert not restored.set_aside


WAYS = (by_statement, by_copy, by_spill)


async def parts_of(books, request) -> list[tuple]:
    """(id, part, provider, prompt, completion, charge) of each usage record of the request."""
    return await books.fetch(
        "select id, part, provider_id, tokens_prompt, tokens_completion, customer_nano_usd from usage_record"
        " where id = %s or continues_id = %s order by part",
        request.id, request.id,
    )  # fmt: skip


async def earned(books, provider_id) -> int:
    rows = await books.fetch(
        "select credits_posted - debits_posted from ledger_account"
        " where kind = 'provider_payable' and owner_id = %s",
        provider_id,
    )
    return sum(balance for (balance,) in rows)


class TestRecord:
    @pytest.mark.parametrize("way", WAYS)
    async def test_each_part_is_a_row_with_its_provider(self, connection, funded, way):
        request = continued(funded.finished(tokens_prompt=10, tokens_completion=20), 7, 0, 3)
        await way(connection, [request])
        assert await parts_of(funded, request) == [
            (usage_part_id(request.id, part), part, entry.provider_id, prompt, tokens, amount)
            for part, (entry, prompt, tokens, amount) in enumerate(
                zip(request.parts, (10, 0, 0, 0), (20, 7, 0, 3), (120, 35, 0, 15), strict=True)
            )
        ]

    @pytest.mark.parametrize("first", WAYS)
    @pytest.mark.parametrize("second", WAYS)
    async def test_whichever_way_it_comes_again_adds_nothing(self, connection, funded, first, second):
        request = continued(funded.finished(), 7, 3)
        await first(connection, [request])
        written = await parts_of(funded, request)
        await second(connection, [request, funded.finished()])
        assert await parts_of(funded, request) == written

    async def test_a_record_without_its_request_or_with_a_second_prompt_is_refused(self, connection, funded):
        prompt = replace(
            continued(funded.finished(), 1).more[0],
            quantities=Quantities(token_prompt=1),
            prices=Prices(token_prompt=2),
            customer_amount=Money(2),
            provider_amount=Money(2),
            fee_amount=Money(0),
        )
        with pytest.raises(psycopg.errors.CheckViolation, match="prompt_is_paid_once"):
            await by_copy(connection, [replace(funded.finished(), more=(prompt,))])
        request = funded.finished()
        await by_statement(connection, [request])
        with pytest.raises(psycopg.errors.CheckViolation, match="part_of_a_request"):
            await connection.execute(
                "insert into usage_record select (jsonb_populate_record(u, jsonb_build_object('id', %s::uuid, 'part', 1)))"
                ".* from usage_record u where id = %s",
                (new_id(), request.id),
            )


class TestPost:
    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        answer=st.tuples(
            st.integers(0, 5_000), st.integers(0, 40), st.lists(st.integers(0, 5_000), max_size=6)
        ),
        way=st.sampled_from(WAYS),
    )
    async def test_the_customer_pays_the_sum_and_each_provider_gets_its_own(
        self, pool, connection, answer, way
    ):
        prompt, rate, tokens = answer
        books = Books(pool)
        await books.fund(10**9)
        request = continued(
            books.finished(tokens_prompt=prompt), *tokens, prices=Prices(token_completion=rate)
        )
        await way(connection, [request])
        for _ in range(2):
            await post_requests(connection, [request.id])
        entries = request.parts
        assert price(request) == sum(entry.customer_amount.amount for entry in entries)
        assert (await books.columns("customer_balance")).debits_posted == price(request)
        assert await books.columns("usage_clearing") == (price(request), price(request), 0, 0)
        for entry in entries:
            assert await earned(books, entry.provider_id) == entry.provider_amount.amount

    async def test_a_hold_that_covers_the_sum_pays_all_parts(self, connection, books):
        request = continued(books.finished(), 7, 3)
        await books.fund(price(request))
        await books.hold(request.id, price(request))
        await by_statement(connection, [request])
        assert await post_requests(connection, [request.id]) == 3
        assert await books.columns("customer_balance") == (price(request), price(request), 0, 0)
        assert await books.value("select count(*) from transfer where code = 'usage_shortfall'"
                                 " and key like %s", f"usage:{usage_part_id(request.id, 1)}%") == 0  # fmt: skip

    async def test_the_sweeper_posts_all_parts_together_however_few_it_takes(
        self, connection, funded, monkeypatch
    ):
        requests = [continued(funded.finished(), 7, 3) for _ in range(5)]
        await by_copy(connection, requests)
        monkeypatch.setattr("raymart_billing.posting.post.USAGES_PER_POST_MAX", 1)
        assert await sweep_usage(connection) == 15
        moments = await funded.fetch(
            "select count(distinct posted_at), count(*) from usage_record where organization_id = %s"
            " group by coalesce(continues_id, id)",
            funded.organization_id,
        )
        assert [count for _, count in moments] == [3] * 5

    async def test_a_later_part_that_was_left_is_found(self, connection, funded):
        """As after an operator's repair: the first part is posted, the later one is not."""
        request = continued(funded.finished(), 7)
        await by_copy(connection, [request])
        await post_requests(connection, [request.id])
        later = continued(request, 7, 9)
        await connection.execute(
            "insert into usage_record select (jsonb_populate_record(u, jsonb_build_object('id', %s::uuid, 'part', 2,"
            " 'posted_at', null))).* from usage_record u where id = %s",
            (usage_part_id(later.id, 2), usage_part_id(later.id, 1)),
        )
        assert await sweep_usage(connection) == 1

    async def test_six_posters_at_once_pay_each_part_once(self, pool, connection, funded):
        requests = [continued(funded.finished(), 7, 3) for _ in range(60)]
        await by_copy(connection, requests)

        async def sweep():
            async with pool.connection() as own:
                return await sweep_usage(own)

        assert sum(await asyncio.gather(*[sweep() for _ in range(6)])) == 180
        assert (await funded.columns("customer_balance")).debits_posted == sum(map(price, requests))

    async def test_who_has_the_first_part_at_hand_has_the_later_ones(self, owner_url, connection, funded):
        request, other = continued(funded.finished(), 7), continued(funded.finished(), 7)
        await by_copy(connection, [request, other])
        async with await psycopg.AsyncConnection.connect(owner_url) as holding:
            await holding.execute("select from usage_record where id = %s for update", (request.id,))
            async with asyncio.timeout(20):
                assert await post_requests(connection, [request.id, other.id]) == 2
        posted = "select count(*) from usage_record where continues_id = %s and posted_at is not null"
        assert await funded.value(posted, request.id) == 0
        assert await funded.value(posted, other.id) == 1


class TestLease:
    @pytest.mark.parametrize("single_use", [False, True])
    async def test_the_lease_that_pays_the_request_pays_every_part(self, connection, books, single_use):
        await books.fund(1_000)
        desk, request = LeaseDesk(books), continued(books.finished(), 7, 3)
        await desk.take(request.id, 500, single_use=single_use)
        await by_copy(connection, [replace(request, lease_id=request.id)])
        assert await post_requests(connection, [request.id]) == 3
        lease = await desk.lease(request.id)
        assert (lease.held, lease.charged) == (0 if single_use else 500 - price(request), price(request))
        assert (await books.columns("customer_balance")).debits_posted == price(request)
        assert await books.states_of(request.id)
        assert not [
            code
            for part in (1, 2)
            for code, _, _ in await books.states_of(usage_part_id(request.id, part))
            if code not in {"usage_earning", "usage_fee"}
        ]

    async def test_what_a_request_reserved_shrinks_to_the_sum_of_its_parts(self, pool, books):
        settled = Settled()
        sink = LedgerUsageSink(pool, record_timeout_s=20.0, settlements=settled)
        await sink.start()
        request = replace(continued(books.finished(), 7, 3), lease_id=new_id())
        await sink.record(request)
        await sink.stop()
        assert settled.charges == {request.id: Money(170)}
        assert settled.taken == {request.lease_id: 170}


class Settled:
    """Settlements that remember."""

    def __init__(self):
        self.charges = {}
        self.taken = {}

    def settled(self, request_id, charge):
        self.charges[request_id] = charge

    def released(self, request_id):
        raise AssertionError(request_id)

    def posted(self, lease_id, amount):
        self.taken[lease_id] = amount


class TestRollUp:
    async def test_the_request_is_counted_once_and_its_tokens_with_their_providers(self, connection, funded):
        request = continued(funded.finished(tokens_prompt=10, tokens_completion=20), 7, 3)
        await by_copy(connection, [request])
        await post_requests(connection, [request.id])
        for table in ("usage_hour", "usage_day"):
            rows = await funded.fetch(
                "select provider_id, requests, tokens_prompt, tokens_completion, customer_nano_usd"
                f" from {table} where organization_id = %s",
                funded.organization_id,
            )
            first, second, third = (entry.provider_id for entry in request.parts)
            assert set(rows) == {(first, 1, 10, 20, 120), (second, 0, 0, 7, 35), (third, 0, 0, 3, 15)}
        today = datetime.now(UTC).date()
        assert {rows for _, rows in await funded.fetch("select * from usage_rollup_drift(%s)", today)} == {0}
