"""Refunds: who gets what back, who bears it, once, and never more than was paid."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from msgspec.structs import replace

from raymart_billing.connections import make_pool
from raymart_billing.ledger.refusals import AMOUNT_MAX
from raymart_billing.posting import post_requests
from raymart_billing.refunds import (
    RULES_VERSION,
    Bearer,
    Broken,
    Refund,
    RefundKind,
    broken_requests,
    refund_by_rule,
    refund_request,
)
from raymart_billing.refunds.tasks import PERIODICS, refund_broken
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_core.units import Fault, FinishReason
from raymart_marketplace.db.session import session_scope
from support.background import running_worker
from support.old_books import OldBooks

PRICE, EARNED, FEE = 120, 108, 12
"""Of one request of `books`: 10 x 2 + 20 x 5 nano-USD, a tenth of it the fee."""


@pytest.fixture
async def request_id(books: OldBooks):
    """A request that was billed."""
    return await billed(books)


async def billed(books: OldBooks, **changes):
    """A request of 120 nano-USD, posted now."""
    request = books.request(datetime.now(UTC), **changes)
    await books.fund(PRICE)
    await books.record(request)
    async with books.pool.connection() as connection:
        assert await post_requests(connection, [request.id]) == 1
    return request.id


def broken_by(books: OldBooks, fault: Fault) -> dict:
    """A stream that broke off after it had delivered, and was billed."""
    [attempt] = books.finished().attempts
    return {
        "state": "failed",
        "finish_reason": FinishReason.ERROR,
        "error_code": "upstream_failed",
        "attempts": (replace(attempt, outcome="failed", fault=fault, reason="stalled"),),
    }


async def refund(books: OldBooks, request_id, amount=None, *, bearer=Bearer.PLATFORM, key=None) -> Refund:
    async with session_scope(books.sessions) as session:
        [refund] = await refund_request(
            session,
            request_id=request_id,
            amount=amount if amount is None or isinstance(amount, Money) else Money(amount),
            bearer=bearer,
            reason="asked for",
            key=key or new_id().hex,
            actor_id=None,
        )
        return refund


async def by_rule(books: OldBooks, request_id, fault: Fault) -> Refund | None:
    async with session_scope(books.sessions) as session:
        return next(iter(await refund_by_rule(session, Broken(request_id=request_id, fault=fault))), None)


async def balances(books: OldBooks) -> dict[str, int]:
    kinds = ("customer_balance", "provider_payable", "platform_fee", "platform_refund")
    return {kind: (await books.columns(kind)).balance for kind in kinds}


async def moved(books: OldBooks, before: dict[str, int]) -> dict[str, int]:
    return {kind: after - before[kind] for kind, after in (await balances(books)).items()}


def parts(refund: Refund) -> tuple[int, int, int, int]:
    return refund.amount_nano_usd, refund.clawback_nano_usd, refund.fee_nano_usd, refund.expense_nano_usd


class TestAdminRefund:
    async def test_platform_bears_what_the_provider_earned(self, books: OldBooks, request_id):
        before = await balances(books)
        done = await refund(books, request_id)
        assert parts(done) == (PRICE, 0, FEE, EARNED)
        assert await moved(books, before) == {
            "customer_balance": PRICE,
            "provider_payable": 0,
            "platform_fee": -FEE,
            "platform_refund": -EARNED,
        }

    async def test_provider_gives_back_what_it_earned(self, books: OldBooks, request_id):
        before = await balances(books)
        done = await refund(books, request_id, bearer=Bearer.PROVIDER)
        assert parts(done) == (PRICE, EARNED, FEE, 0)
        assert await moved(books, before) == {
            "customer_balance": PRICE,
            "provider_payable": -EARNED,
            "platform_fee": -FEE,
            "platform_refund": 0,
        }

    async def test_what_the_provider_was_paid_already_is_the_platforms_expense(
        self, books: OldBooks, request_id
    ):
        await books.value(
            "select ledger_post_batch(%s, %s, %s, %s::bigint[], %s)",
            [f"test:{new_id()}"],
            [await books.account_id("provider_payable")],
            [await books.account_id("payout_clearing", books.provider_id)],
            [EARNED - 8],
            ["payout_sent"],
        )
        done = await refund(books, request_id, bearer=Bearer.PROVIDER)
        assert parts(done) == (PRICE, 8, FEE, EARNED - 8)
        assert (await books.columns("provider_payable")).balance == 0

    async def test_part_is_split_as_the_charge_was(self, books: OldBooks, request_id):
        done = await refund(books, request_id, 50, bearer=Bearer.PROVIDER)
        assert parts(done) == (50, 45, 5, 0)

    async def test_parts_of_a_nano_never_add_up_to_more_than_each_had(self, books: OldBooks, request_id):
        done = [await refund(books, request_id, 1, bearer=Bearer.PROVIDER) for _ in range(PRICE)]
        assert sum(each.clawback_nano_usd for each in done) <= EARNED
        assert sum(each.fee_nano_usd for each in done) == FEE
        assert sum(each.amount_nano_usd for each in done) == PRICE
        with pytest.raises(Conflict):
            await refund(books, request_id, 1)

    async def test_repeat_of_a_key_is_the_first_refund(self, books: OldBooks, request_id):
        key = new_id().hex
        done = [await refund(books, request_id, 50, key=key) for _ in range(3)]
        assert len({each.id for each in done}) == 1
        assert (await books.columns("customer_balance")).balance == 50

    async def test_key_of_another_refund_is_refused(self, books: OldBooks, request_id):
        key = new_id().hex
        await refund(books, request_id, 50, key=key)
        with pytest.raises(Conflict, match="another refund"):
            await refund(books, request_id, 51, key=key)

    async def test_more_than_is_left_is_refused(self, books: OldBooks, request_id):
        await refund(books, request_id, 100)
        with pytest.raises(Conflict, match="21 exceeds what is left of the request's charge, 20"):
            await refund(books, request_id, 21)
        assert parts(await refund(books, request_id))[0] == 20
        with pytest.raises(Conflict, match="refunded before"):
            await refund(books, request_id)

    async def test_six_at_once_of_one_request_refund_it_once(self, books: OldBooks, request_id):
        done = await asyncio.gather(
            *(refund(books, request_id, PRICE) for _ in range(6)), return_exceptions=True
        )
        assert sum(isinstance(each, Refund) for each in done) == 1
        assert sum(isinstance(each, Conflict) for each in done) == 5
        assert (await books.columns("customer_balance")).balance == PRICE

    async def test_six_parts_at_once_fill_the_charge_and_no_more(self, books: OldBooks, request_id):
        done = await asyncio.gather(
            *(refund(books, request_id, 50) for _ in range(6)), return_exceptions=True
        )
        assert sum(isinstance(each, Refund) for each in done) == 2
        assert (await books.columns("customer_balance")).balance == 100

    async def test_amount_out_of_range_or_of_another_asset_is_refused(self, books, request_id):
        for amount in (Money(0), Money(-1), Money(-AMOUNT_MAX), Money(5, Asset.USDC)):
            with pytest.raises(InvalidRequest, match="cannot be refunded"):
                await refund(books, request_id, amount)

    async def test_request_that_was_not_billed_is_not_found(self, books: OldBooks):
        with pytest.raises(NotFound):
            await refund(books, new_id())

    async def test_request_that_is_not_posted_yet_is_not_found(self, books: OldBooks):
        request = books.request(datetime.now(UTC))
        await books.fund(PRICE)
        await books.record(request)
        with pytest.raises(NotFound):
            await refund(books, request.id)
        async with books.pool.connection() as connection:
            await post_requests(connection, [request.id])

    async def test_reason_is_needed(self, books: OldBooks, request_id):
        for reason in ("", "   ", "x" * 501):
            async with session_scope(books.sessions) as session:
                with pytest.raises(InvalidRequest, match="reason"):
                    await refund_request(
                        session,
                        request_id=request_id,
                        amount=None,
                        bearer=Bearer.PLATFORM,
                        reason=reason,
                        key="k",
                        actor_id=None,
                    )

    async def test_what_the_platform_paid_itself_is_not_given_back(self, books: OldBooks):
        """Usage beyond hold and balance was the platform's loss: the customer has nothing to get back."""
        request = books.request(datetime.now(UTC))
        from raymart_billing.records.copying import copy_requests

        async with books.pool.connection() as connection:
            await copy_requests(connection, [request], may_exist=False)
            await post_requests(connection, [request.id])
        with pytest.raises(Conflict, match="refunded before"):
            await refund(books, request.id)
        with pytest.raises(Conflict, match="exceeds"):
            await refund(books, request.id, 1)


class TestRules:
    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            (Fault.PROVIDER, (PRICE, EARNED, FEE, 0)),
            (Fault.PLATFORM, (PRICE, 0, FEE, EARNED)),
            (Fault.NETWORK, (PRICE // 2, 0, FEE // 2, EARNED // 2)),
            (Fault.CUSTOMER, None),
            (Fault.NONE, None),
        ],
    )
    async def test_fault_decides_share_and_bearer(self, books: OldBooks, fault, expected):
        request_id = await billed(books, **broken_by(books, fault))
        done = await by_rule(books, request_id, fault)
        assert (done and parts(done)) == expected
        if done:
            assert (done.kind, done.rule_version) == (RefundKind.RULE, RULES_VERSION)

    async def test_runs_once_a_request_however_often_it_runs(self, books: OldBooks):
        request_id = await billed(books, **broken_by(books, Fault.PROVIDER))
        done = await asyncio.gather(*(by_rule(books, request_id, Fault.PROVIDER) for _ in range(6)))
        assert len({each.id for each in done if each}) == 1
        assert (await books.columns("customer_balance")).balance == PRICE

    async def test_takes_what_an_administrator_left(self, books: OldBooks):
        request_id = await billed(books, **broken_by(books, Fault.PROVIDER))
        await refund(books, request_id, 100)
        done = await by_rule(books, request_id, Fault.PROVIDER)
        assert done is not None
        assert done.amount_nano_usd == 20

    async def test_does_nothing_when_nothing_is_left(self, books: OldBooks):
        request_id = await billed(books, **broken_by(books, Fault.PROVIDER))
        await refund(books, request_id)
        assert await by_rule(books, request_id, Fault.PROVIDER) is None


class TestBrokenRequests:
    async def found(self, books: OldBooks) -> dict:
        async with session_scope(books.sessions) as session:
            rows = await broken_requests(session, looked_back=timedelta(hours=1), limit=500)
        return {row.request_id: row for row in rows}

    async def test_failed_billed_and_not_refunded_ones_are_found(self, books: OldBooks):
        request_id = await billed(books, **broken_by(books, Fault.PROVIDER))
        assert (await self.found(books))[request_id] == Broken(request_id=request_id, fault=Fault.PROVIDER)
        await by_rule(books, request_id, Fault.PROVIDER)
        assert request_id not in await self.found(books)

    async def test_completed_and_unruled_ones_are_not(self, books: OldBooks, request_id):
        left_by_customer = await billed(books, **broken_by(books, Fault.CUSTOMER))
        assert not {request_id, left_by_customer} & set(await self.found(books))


class TestRefundBroken:
    async def test_everything_that_a_rule_covers_is_refunded_once(self, books: OldBooks, sessions):
        broken = [await billed(books, **broken_by(books, Fault.PROVIDER)) for _ in range(2)]
        await billed(books, **broken_by(books, Fault.CUSTOMER))
        await asyncio.gather(*(refund_broken(sessions, looked_back=timedelta(hours=1)) for _ in range(3)))
        assert (await books.columns("customer_balance")).balance == len(broken) * PRICE
        refunded = await books.fetch(
            "select request_id from refund where organization_id = %s", books.organization_id
        )
        assert {request_id for (request_id,) in refunded} == set(broken)

    async def test_a_broken_stream_is_refunded_while_the_worker_runs(self, books: OldBooks, database_url):
        await billed(books, **broken_by(books, Fault.PLATFORM))
        async with running_worker(database_url, periodics=PERIODICS) as worker:
            await books.fetch(
                "update periodic_job set next_due_at = clock_timestamp() where name = 'refunds.by_rule'"
            )
            await worker.drain()
        assert (await books.columns("customer_balance")).balance == PRICE


class TestGuards:
    """As the superuser: the runtime's role may not even lock the usage that a refund by hand would be checked against."""

    @pytest.fixture
    async def pool(self, owner_url: str):
        async with make_pool(owner_url, size_max=4, name="test") as pool:
            yield pool

    ROW = """
        insert into refund (id, key, kind, organization_id, request_id, provider_id, amount_nano_usd, clawback_nano_usd,
                            fee_nano_usd, expense_nano_usd, bearer, reason)
        values (%s, %s, 'admin', %s, %s, %s, {amount}, 0, 0, {amount}, 'platform', 'r')
    """

    async def insert(self, books: OldBooks, request_id, amount: str):
        refund_id = new_id()
        await books.fetch(
            self.ROW.format(amount=amount),
            refund_id,
            refund_id.hex,
            books.organization_id,
            request_id,
            books.provider_id,
        )

    async def test_amount_beyond_the_charge_is_refused(self, books: OldBooks, request_id):
        for amount in ("0", "-1", "121"):
            with pytest.raises(psycopg.errors.CheckViolation):
                await self.insert(books, request_id, amount)

    async def test_amount_that_is_no_bigint_is_refused(self, books: OldBooks, request_id):
        for amount in ("'NaN'::numeric", "9223372036854775808", "1e30::float8"):
            with pytest.raises((psycopg.errors.NumericValueOutOfRange, psycopg.errors.FeatureNotSupported)):
                await self.insert(books, request_id, amount)

    async def test_refund_without_its_transfers_is_refused(self, books: OldBooks, request_id):
        with pytest.raises(psycopg.errors.CheckViolation) as caught:
            await self.insert(books, request_id, "5")
        assert caught.value.diag.constraint_name == "ck_refund_is_posted"

    async def test_refund_of_anothers_request_is_refused(self, books: OldBooks, request_id):
        books.organization_id = new_id()
        with pytest.raises(psycopg.errors.CheckViolation) as caught:
            await self.insert(books, request_id, "5")
        assert caught.value.diag.constraint_name == "ck_refund_within_charge"

    async def test_refund_does_not_change(self, books: OldBooks, request_id):
        done = await refund(books, request_id, 5)
        for change in ("update refund set reason = 'x' where id = %s", "delete from refund where id = %s"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await books.fetch(change, done.id)

    async def test_other_currency_is_refused_by_the_database_too(self, books: OldBooks, request_id):
        with pytest.raises(psycopg.errors.CheckViolation, match="usdc"):
            await books.fetch(
                "select refund_post(%s, 'k', 'admin', %s, %s, null, 5, 'platform', null, null, 'r', 'usdc', null)",
                new_id(),
                books.organization_id,
                request_id,
            )
