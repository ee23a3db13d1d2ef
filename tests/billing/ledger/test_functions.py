"""The ledger's functions, called as the application calls them."""

import psycopg
import pytest

from raymart_billing.ledger.models import OVERDRAWN_BY_NATURE, PLATFORM_KINDS
from raymart_core.ids import new_id

CODES = {
    ("promotional_credit", "customer_balance"): "credit_grant",
    ("customer_balance", "usage_clearing"): "usage_charge",
    ("usage_clearing", "provider_payable"): "usage_earning",
}


async def post(books, keys, amounts, debit="promotional_credit", credit="customer_balance"):
    return await books.value(
        "select ledger_post_batch(%s, %s, %s, %s::bigint[], %s)",
        keys,
        [await books.account_id(debit)] * len(keys),
        [await books.account_id(credit)] * len(keys),
        amounts,
        [CODES[debit, credit]] * len(keys),
    )


class TestOpenAccount:
    async def test_a_repeat_returns_the_same_account(self, books):
        first = await books.account_id("customer_balance")
        assert await books.account_id("customer_balance") == first

    async def test_the_platforms_accounts_exist_from_the_start(self, books):
        rows = await books.fetch(
            "select kind, may_overdraw from ledger_account where owner_id is null and asset = 'usd'"
        )
        assert set(rows) == {(kind.value, kind in OVERDRAWN_BY_NATURE) for kind in PLATFORM_KINDS}

    async def test_a_kind_outside_the_chart_is_refused(self, books):
        with pytest.raises(psycopg.errors.CheckViolation):
            await books.account_id("petty_cash", new_id())


class TestPostBatch:
    async def test_a_thousand_are_one_statement_and_one_update_per_account(self, books):
        keys = [str(new_id()) for _ in range(1_000)]
        assert await post(books, keys, list(range(1, 1_001))) == 1_000
        assert (await books.columns("customer_balance")).credits_posted == 500_500

    async def test_known_keys_are_skipped_and_the_others_posted(self, books):
        keys = [str(new_id()) for _ in range(10)]
        assert await post(books, keys[:6], [1] * 6) == 6
        assert await post(books, keys, [1] * 10) == 4
        assert (await books.columns("customer_balance")).credits_posted == 10

    async def test_a_key_twice_in_one_batch_counts_once(self, books):
        key = str(new_id())
        assert await post(books, [key, key], [5, 5]) == 1
        assert (await books.columns("customer_balance")).credits_posted == 5

    async def test_a_key_with_two_amounts_in_one_batch_refuses_the_batch(self, books):
        key = str(new_id())
        with pytest.raises(psycopg.errors.UniqueViolation) as refusal:
            await post(books, [key, key], [5, 6])
        assert refusal.value.diag.constraint_name == "uq_transfer_key"
        assert (await books.columns("customer_balance")).credits_posted == 0

    async def test_one_overdraft_refuses_the_whole_batch(self, books):
        await books.fund(10)
        with pytest.raises(psycopg.errors.CheckViolation):
            await post(
                books, [str(new_id()) for _ in range(3)], [5, 5, 1], "customer_balance", "usage_clearing"
            )
        assert (await books.columns("customer_balance")).debits_posted == 0

    @pytest.mark.parametrize("size", [0, 1_001])
    async def test_a_batch_outside_its_size_is_refused(self, books, size):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            await post(books, [str(new_id()) for _ in range(size)], [1] * size)

    async def test_arrays_of_different_lengths_are_refused(self, books):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            await post(books, [str(new_id()), str(new_id())], [1])

    async def test_ids_follow_the_order_of_the_batch(self, books):
        keys = [str(new_id()) for _ in range(50)][::-1]
        await post(books, keys, [1] * 50)
        rows = await books.fetch("select key from transfer where key = any(%s) order by id", keys)
        assert [key for (key,) in rows] == keys


class TestHold:
    async def test_a_hold_reserves_on_the_customers_own_accounts_only(self, books):
        await books.fund(1_000)
        fee_before = await books.columns("platform_fee")
        await books.hold(new_id(), 300)
        assert (await books.columns("customer_balance")).debits_pending == 300
        assert (await books.columns("usage_clearing")).credits_pending == 300
        assert await books.columns("platform_fee") == fee_before

    async def test_a_repeat_is_the_same_hold_also_when_nothing_more_is_available(self, books):
        await books.fund(300)
        request_id = new_id()
        assert await books.hold(request_id, 300) == await books.hold(request_id, 300)
        assert (await books.columns("customer_balance")).debits_pending == 300

    async def test_a_repeat_with_another_amount_is_refused(self, books):
        await books.fund(1_000)
        request_id = new_id()
        await books.hold(request_id, 300)
        with pytest.raises(psycopg.errors.UniqueViolation):
            await books.hold(request_id, 301)

    async def test_a_hopeless_hold_leaves_no_dead_row(self, books):
        """A customer without funds must not be able to grow our tables."""
        await books.fund(10)
        async with books.pool.connection() as connection:
            with pytest.raises(psycopg.errors.CheckViolation, match="overdraws"):
                await connection.execute(
                    "select ledger_hold(%s, %s, %s, 11, 'usage_hold', '1 minute')",
                    (
                        str(new_id()),
                        await books.account_id("customer_balance"),
                        await books.account_id("usage_clearing"),
                    ),
                )
        # The message above is the look ahead's; the CHECK's would name the row that failed.

    @pytest.mark.parametrize("ttl", ["0 seconds", "-1 seconds", "25 hours"])
    async def test_a_life_outside_its_limits_is_refused(self, books, ttl):
        await books.fund(10)
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            await books.hold(new_id(), 1, ttl)

    async def test_its_end_is_counted_by_the_databases_clock(self, books):
        await books.fund(10)
        hold = await books.hold(new_id(), 1, "90 seconds")
        rest = await books.value(
            "select extract(epoch from expires_at - created_at)::float from transfer where id = %s", hold
        )
        assert rest == pytest.approx(90, abs=1)


class TestResolution:
    @pytest.fixture
    async def request_id(self, books):
        await books.fund(1_000)
        request_id = new_id()
        await books.hold(request_id, 400)
        return request_id

    @pytest.fixture(autouse=True)
    async def cleared(self, books):
        """Pass on what a test has captured: later tests check that all clearing accounts are empty."""
        yield
        kept = (await books.columns("usage_clearing")).balance
        if kept:
            await post(books, [str(new_id())], [kept], "usage_clearing", "provider_payable")

    async def resolve(self, books, function, request_id, *arguments):
        places = ", %s" * len(arguments)
        return await books.value(f"select {function}(%s{places})", f"hold:{request_id}", *arguments)

    async def test_a_capture_posts_its_amount_and_gives_back_the_rest(self, books, request_id):
        assert await self.resolve(books, "ledger_post_hold", request_id, 250, "usage_charge") == "posted"
        assert await books.columns("customer_balance") == (250, 1_000, 0, 0)
        assert await books.columns("usage_clearing") == (0, 250, 0, 0)

    async def test_a_capture_of_nothing_voids(self, books, request_id):
        assert await self.resolve(books, "ledger_post_hold", request_id, 0, "usage_charge") == "voided"
        assert await books.columns("customer_balance") == (0, 1_000, 0, 0)

    async def test_a_second_capture_is_a_no_op(self, books, request_id):
        for _ in range(2):
            assert await self.resolve(books, "ledger_post_hold", request_id, 250, "usage_charge") == "posted"
        assert (await books.columns("customer_balance")).debits_posted == 250

    async def test_a_second_capture_of_another_amount_is_refused(self, books, request_id):
        await self.resolve(books, "ledger_post_hold", request_id, 250, "usage_charge")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await self.resolve(books, "ledger_post_hold", request_id, 251, "usage_charge")

    async def test_more_than_was_held_is_refused(self, books, request_id):
        with pytest.raises(psycopg.errors.CheckViolation, match="does not fit its hold"):
            await self.resolve(books, "ledger_post_hold", request_id, 401, "usage_charge")

    async def test_a_void_after_a_capture_tells_that_it_was_captured(self, books, request_id):
        await self.resolve(books, "ledger_post_hold", request_id, 1, "usage_charge")
        assert await self.resolve(books, "ledger_void_hold", request_id) == "posted"

    async def test_a_capture_after_a_void_tells_that_it_was_voided(self, books, request_id):
        assert await self.resolve(books, "ledger_void_hold", request_id) == "voided"
        assert await self.resolve(books, "ledger_post_hold", request_id, 1, "usage_charge") == "voided"
        assert await books.columns("customer_balance") == (0, 1_000, 0, 0)

    async def test_an_unknown_hold_is_null(self, books):
        assert await self.resolve(books, "ledger_void_hold", new_id()) is None
        assert await self.resolve(books, "ledger_post_hold", new_id(), 1, "usage_charge") is None

    async def test_a_hold_past_its_time_can_be_captured_until_it_is_swept(self, books):
        await books.fund(10)
        request_id = new_id()
        await books.hold(request_id, 10, "1 microsecond")
        assert await self.resolve(books, "ledger_post_hold", request_id, 10, "usage_charge") == "posted"


class TestCaptureUsage:
    async def test_money_goes_from_the_hold_to_provider_and_platform(self, books):
        await books.fund(1_000)
        fee_before = (await books.columns("platform_fee")).balance
        request_id = new_id()
        await books.hold(request_id, 400)

        posted = await books.capture({request_id: 250})

        assert posted == {"usage_charge": (1, 250), "usage_earning": (1, 225), "usage_fee": (1, 25)}
        assert await books.columns("customer_balance") == (250, 1_000, 0, 0)
        assert await books.columns("usage_clearing") == (250, 250, 0, 0)
        assert (await books.columns("provider_payable")).balance == 225
        assert (await books.columns("platform_fee")).balance == fee_before + 25

    async def test_a_replay_posts_nothing(self, books):
        await books.fund(1_000)
        charges = {new_id(): 100, new_id(): 50}
        for request_id in charges:
            await books.hold(request_id, 200)
        await books.capture(charges)
        before = await books.columns("customer_balance")

        assert await books.capture(charges) == {}
        assert await books.columns("customer_balance") == before

    async def test_a_replay_of_an_uncovered_usage_posts_nothing(self, books):
        await books.fund(1_000)
        charges = {new_id(): 100}
        await books.capture(charges)
        assert await books.capture(charges) == {}
        assert (await books.columns("customer_balance")).debits_posted == 100

    async def test_free_usage_voids_its_hold(self, books):
        await books.fund(1_000)
        request_id = new_id()
        await books.hold(request_id, 400)
        assert await books.capture({request_id: 0}) == {"hold_released": (1, 400)}
        assert await books.columns("customer_balance") == (0, 1_000, 0, 0)

    async def test_an_expired_hold_is_debited_from_the_balance(self, books):
        await books.fund(1_000)
        request_id = new_id()
        await books.hold(request_id, 400, "1 microsecond")
        assert await books.value("select ledger_expire_holds(1000)") >= 1

        assert (await books.capture({request_id: 250}))["usage_charge"] == (1, 250)
        assert await books.states_of(request_id) == [
            ("usage_hold", "pending", 400),
            ("hold_expired", "voided", 400),
            ("usage_charge", "posted", 250),
            ("usage_earning", "posted", 225),
            ("usage_fee", "posted", 25),
        ]

    async def test_what_nobody_can_pay_is_the_platforms_loss_and_the_provider_is_paid(self, books):
        await books.fund(100)
        loss_before = (await books.columns("platform_loss")).balance
        posted = await books.capture({new_id(): 250})
        assert posted["usage_shortfall"] == (1, 250)
        assert (await books.columns("platform_loss")).balance == loss_before - 250
        assert (await books.columns("provider_payable")).balance == 225
        assert await books.columns("customer_balance") == (0, 100, 0, 0)

    async def test_more_than_the_hold_is_split_between_hold_and_balance(self, books):
        await books.fund(1_000)
        request_id = new_id()
        await books.hold(request_id, 100)
        assert (await books.capture({request_id: 130}))["usage_charge"] == (2, 130)
        assert await books.columns("customer_balance") == (130, 1_000, 0, 0)

    async def test_the_balance_covers_the_smallest_usages_first(self, books):
        await books.fund(100)
        posted = await books.capture({new_id(): 90, new_id(): 60, new_id(): 40})
        assert posted["usage_charge"] == (2, 100)
        assert posted["usage_shortfall"] == (1, 90)

    async def test_what_the_batch_itself_gives_back_is_available_to_it(self, books):
        await books.fund(100)
        held, late = new_id(), new_id()
        await books.hold(held, 100)
        assert (await books.capture({held: 30, late: 70}))["usage_charge"] == (2, 100)
        assert (await books.columns("customer_balance")).balance == 0

    async def test_the_balance_never_pays_with_what_is_held_for_others(self, books):
        await books.fund(100)
        await books.hold(new_id(), 60)
        posted = await books.capture({new_id(): 41})
        assert "usage_charge" not in posted
        assert posted["usage_shortfall"] == (1, 41)
