"""Movements by services: batches, keys, and refusals in words."""

import asyncio
import math
from decimal import Decimal

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from raymart_billing.ledger import AccountKind, Movement, TransferCode, open_account, post, transfer_by_key
from raymart_core.errors import Conflict, InsufficientFunds, InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope


@pytest.fixture
async def accounts(books):
    """(promotional_credit, customer_balance, usage_clearing) of a new customer with 1,000."""
    await books.fund(1_000)
    kinds = ("promotional_credit", "customer_balance", "usage_clearing")
    return tuple([await books.account_id(kind) for kind in kinds])


FIVE = Money(5)


def grant(accounts, *, key=None, amount=FIVE, code=TransferCode.CREDIT_GRANT):
    return Movement(
        key=key or f"test:{new_id()}",
        debit_account_id=accounts[0],
        credit_account_id=accounts[1],
        amount=amount,
        code=code,
    )


def charge(accounts, amount, *, key=None):
    return Movement(
        key=key or f"test:{new_id()}",
        debit_account_id=accounts[1],
        credit_account_id=accounts[2],
        amount=Money(amount),
        code=TransferCode.USAGE_CHARGE,
    )


async def posted(sessions, *movements, actor_id=None):
    async with session_scope(sessions) as session:
        return await post(session, movements, actor_id=actor_id)


class TestPost:
    async def test_a_thousand_movements_are_posted_in_their_order(self, sessions, books, accounts):
        movements = [grant(accounts, amount=Money(number)) for number in range(1, 1_001)]
        assert await posted(sessions, *movements) == 1_000
        assert (await books.columns("customer_balance")).credits_posted == 1_000 + 500_500
        rows = await books.fetch(
            "select amount from transfer where credit_account_id = %s and amount <= 1000 order by id",
            accounts[1],
        )
        assert [amount for (amount,) in rows][1:] == list(range(1, 1_001))

    async def test_the_actor_is_kept(self, sessions, accounts):
        movement, actor_id = grant(accounts), new_id()
        await posted(sessions, movement, actor_id=actor_id)
        async with session_scope(sessions) as session:
            transfer = await transfer_by_key(session, movement.key)
        assert transfer is not None
        assert transfer.actor_id == actor_id

    async def test_a_repeat_posts_only_what_is_new(self, sessions, books, accounts):
        first, second = grant(accounts), grant(accounts)
        assert await posted(sessions, first) == 1
        assert await posted(sessions, first, second) == 1
        assert await posted(sessions, first, second) == 0
        assert (await books.columns("customer_balance")).credits_posted == 1_010

    async def test_the_key_of_another_transfer_is_a_conflict_and_posts_nothing(
        self, sessions, books, accounts
    ):
        used = grant(accounts)
        await posted(sessions, used)
        with pytest.raises(Conflict, match=used.key):
            await posted(sessions, grant(accounts), grant(accounts, key=used.key, amount=Money(6)))
        assert (await books.columns("customer_balance")).credits_posted == 1_005

    async def test_one_key_for_two_movements_of_a_batch_is_a_conflict(self, sessions, accounts):
        with pytest.raises(Conflict):
            await posted(
                sessions,
                grant(accounts, key="test:twice", amount=Money(1)),
                grant(accounts, key="test:twice", amount=Money(2)),
            )

    async def test_an_overdraft_names_the_account_and_posts_nothing(self, sessions, books, accounts):
        with pytest.raises(InsufficientFunds, match=rf"account {accounts[1]} \(customer_balance\)"):
            await posted(sessions, grant(accounts), charge(accounts, 1_006))
        assert (await books.columns("customer_balance")).balance == 1_000

    async def test_a_batch_is_judged_by_its_net_effect(self, sessions, accounts):
        """What is spent may come in within the same batch, and what is cleared may go out before it came in."""
        async with session_scope(sessions) as session:
            fee_id = await open_account(session, AccountKind.PLATFORM_FEE)
        fee = Movement(
            key=f"test:{new_id()}",
            debit_account_id=accounts[2],
            credit_account_id=fee_id,
            amount=Money(1_200),
            code=TransferCode.USAGE_FEE,
        )
        batch = (fee, charge(accounts, 1_200), grant(accounts, amount=Money(200)))
        assert await posted(sessions, *batch) == 3

    async def test_a_balance_no_bigint_holds_is_refused(self, sessions, accounts):
        with pytest.raises(InvalidRequest) as refusal:
            await posted(sessions, grant(accounts, amount=Money(2**63 - 1)))
        assert refusal.value.param == "amount"

    async def test_forty_at_once_with_one_key_post_once(self, sessions, books, accounts):
        movement = grant(accounts)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(posted(sessions, movement)) for _ in range(40)]
        assert sum(task.result() for task in tasks) == 1
        assert (await books.columns("customer_balance")).credits_posted == 1_005

    async def test_an_unknown_account_is_a_bug_and_no_users_error(self, sessions, accounts):
        with pytest.raises(DBAPIError, match="needs two open accounts"):
            await posted(sessions, grant((accounts[0], -1)))


class TestBadInput:
    @pytest.mark.parametrize("amount", [Money(0), Money(-1), Money(1, Asset.USDC)])
    async def test_an_amount_out_of_bounds_is_refused_by_name(self, sessions, accounts, amount):
        with pytest.raises(InvalidRequest) as refusal:
            await posted(sessions, grant(accounts, amount=amount))
        assert refusal.value.param == "amount"

    @pytest.mark.parametrize("amount", [1.0, math.nan, math.inf, Decimal(1), "1", True, None])
    def test_what_is_no_whole_number_is_no_money(self, amount):
        with pytest.raises(AssertionError, match="whole units"):
            Money(amount)

    @pytest.mark.parametrize("amount", [2**63, 10**30, -(2**63)])
    def test_what_no_bigint_holds_is_no_money(self, amount):
        with pytest.raises(ValueError, match="largest amount"):
            Money(amount)

    @pytest.mark.parametrize("key", ["", "k" * 256])
    async def test_a_key_outside_its_length_is_refused_by_name(self, sessions, accounts, key):
        movement = Movement(
            key=key,
            debit_account_id=accounts[0],
            credit_account_id=accounts[1],
            amount=Money(1),
            code=TransferCode.CREDIT_GRANT,
        )
        with pytest.raises(InvalidRequest) as refusal:
            await posted(sessions, movement)
        assert refusal.value.param == "key"

    @pytest.mark.parametrize("size", [0, 1_001])
    async def test_a_batch_outside_its_size_is_refused(self, sessions, accounts, size):
        with pytest.raises(InvalidRequest, match=f"not {size}"):
            await posted(sessions, *[grant(accounts) for _ in range(size)])

    @pytest.mark.parametrize("amount", ["0", "-1", "9223372036854775808", "1e30", "'NaN'", "'Infinity'"])
    async def test_the_function_refuses_what_got_past_the_types(self, pool, accounts, amount):
        with pytest.raises((psycopg.DataError, psycopg.IntegrityError)):
            await self.call(pool, accounts, f"{amount}::float8::bigint")

    async def test_the_function_takes_no_fractions(self, pool, accounts):
        with pytest.raises(psycopg.errors.UndefinedFunction):
            await self.call(pool, accounts, "1.5")

    async def call(self, pool, accounts, amount):
        async with pool.connection() as connection:
            await connection.execute(
                "select ledger_post_batch(array[gen_random_uuid()::text], array[%s::bigint], array[%s::bigint],"
                f" array[{amount}], array['credit_grant'])",
                accounts[:2],
            )


class TestOpenAccount:
    async def test_the_same_account_is_found_again(self, sessions):
        owner_id = new_id()
        async with session_scope(sessions) as session:
            first = await open_account(session, AccountKind.CUSTOMER_DISPUTE, owner_id)
            assert await open_account(session, AccountKind.CUSTOMER_DISPUTE, owner_id) == first
            assert await open_account(session, AccountKind.CUSTOMER_RECEIVABLE, owner_id) != first

    async def test_a_kind_and_its_owner_must_agree(self, sessions):
        async with session_scope(sessions) as session:
            with pytest.raises(AssertionError):
                await open_account(session, AccountKind.PLATFORM_FEE, new_id())
            with pytest.raises(AssertionError):
                await open_account(session, AccountKind.CUSTOMER_BALANCE)
