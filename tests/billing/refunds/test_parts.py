"""Refunds of a request that two providers delivered: each refund is of one part, and its own provider bears it."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from raymart_billing.posting import post_requests
from raymart_billing.refunds import Bearer, Broken, broken_requests, refund_by_rule, refund_request
from raymart_core.errors import Conflict
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.units import Fault
from raymart_marketplace.db.session import session_scope
from support.books import continued, price
from support.old_books import OldBooks

DAY = timedelta(days=1)


@pytest.fixture
async def request_of_two(books: OldBooks):
    """120 nano-USD of the first provider, 35 of the second; a tenth of each, rounded down, is the fee."""
    request = continued(books.request(datetime.now(UTC)), 7)
    await books.fund(price(request))
    await books.record(request)
    async with books.pool.connection() as connection:
        assert await post_requests(connection, [request.id]) == 2
    return request


async def refund(books, request, amount=None, *, bearer=Bearer.PROVIDER, key=None):
    async with session_scope(books.sessions) as session:
        refunds = await refund_request(
            session,
            request_id=request.id,
            amount=None if amount is None else Money(amount),
            bearer=bearer,
            reason="asked for",
            key=key or new_id().hex,
            actor_id=None,
        )
        return sorted(
            (done.part, done.amount_nano_usd, done.clawback_nano_usd, done.provider_id) for done in refunds
        )


class TestAdminRefund:
    async def test_all_of_it_is_one_refund_a_part_and_each_provider_gives_back_its_own(
        self, books, request_of_two
    ):
        first, second = request_of_two.parts
        key = new_id().hex
        for _ in range(2):
            assert await refund(books, request_of_two, key=key) == [
                (0, 120, 108, first.provider_id),
                (1, 35, 32, second.provider_id),
            ]
        assert (await books.columns("customer_balance")).balance == 155

    async def test_some_of_it_is_of_the_last_part_first_and_a_repeat_gives_the_same(
        self, books, request_of_two
    ):
        first, second = request_of_two.parts
        key = new_id().hex
        for _ in range(2):
            assert await refund(books, request_of_two, 45, key=key) == [
                (0, 10, 9, first.provider_id),
                (1, 35, 32, second.provider_id),
            ]
        assert (await books.columns("customer_balance")).balance == 45
        with pytest.raises(Conflict, match="used before"):
            await refund(books, request_of_two, 46, key=key)

    async def test_more_than_is_left_of_all_parts_is_refused(self, books, request_of_two):
        await refund(books, request_of_two, 45)
        with pytest.raises(Conflict, match="exceeds what is left"):
            await refund(books, request_of_two, 111)
        await refund(books, request_of_two, 110)
        with pytest.raises(Conflict, match="refunded before"):
            await refund(books, request_of_two)


class TestRules:
    async def test_a_rule_gives_each_part_back_once(self, books, request_of_two):
        broken = Broken(request_id=request_of_two.id, fault=Fault.NETWORK)
        for amounts in ([60, 18], [60, 18]):
            async with session_scope(books.sessions) as session:
                refunds = await refund_by_rule(session, broken)
            assert [done.amount_nano_usd for done in refunds] == amounts
        assert (await books.columns("customer_balance")).balance == 78

    async def test_a_failed_request_of_two_is_found_until_it_is_refunded(self, books):
        request = continued(books.request(datetime.now(UTC)), 7)
        [attempt] = request.attempts
        request = replace(
            request,
            state="failed",
            error_code="upstream_failed",
            attempts=(attempt, replace(attempt, id=new_id(), outcome="failed", fault=Fault.PROVIDER)),
        )
        await books.fund(price(request))
        await books.record(request)
        async with books.pool.connection() as connection:
            await post_requests(connection, [request.id])
        async with session_scope(books.sessions) as session:
            [broken] = [
                found
                for found in await broken_requests(session, looked_back=DAY)
                if found.request_id == request.id
            ]
            assert len(await refund_by_rule(session, broken)) == 2
        async with session_scope(books.sessions) as session:
            left = await broken_requests(session, looked_back=DAY)
        assert request.id not in {found.request_id for found in left}
        assert (await books.columns("customer_balance")).balance == 155
