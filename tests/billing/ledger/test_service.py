"""Grants and balances, through the services that GraphQL uses."""

import asyncio

import pytest

from raymart_billing.ledger import AccountKind, LedgerAccount, accounts_page, balance, earnings, grant_credit
from raymart_core.errors import Conflict, InvalidRequest
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import session_scope


async def grant(sessions, organization_id, amount, key, actor_id=None):
    async with session_scope(sessions) as session:
        return await grant_credit(
            session, organization_id=organization_id, amount=amount, key=key, actor_id=actor_id
        )


class TestGrantCredit:
    async def test_the_grant_is_available_at_once_and_names_who_gave_it(self, sessions, books):
        admin = new_id()
        transfer = await grant(sessions, books.organization_id, Money.parse("12.5"), str(new_id()), admin)

        assert transfer.amount == 12_500_000_000
        assert transfer.actor_id == admin
        async with session_scope(sessions) as session:
            has = await balance(session, books.organization_id)
        assert (has.posted, has.pending, has.available) == (
            Money(12_500_000_000),
            Money(0),
            Money(12_500_000_000),
        )

    async def test_a_repeat_with_the_same_key_returns_the_first_transfer(self, sessions, books):
        key = str(new_id())
        first = await grant(sessions, books.organization_id, Money(700), key)
        again = await grant(sessions, books.organization_id, Money(700), key)

        assert again.id == first.id
        assert (await books.columns("customer_balance")).credits_posted == 700

    @pytest.mark.parametrize("difference", ["amount", "organization"])
    async def test_the_key_of_another_grant_is_a_conflict_and_changes_nothing(
        self, sessions, books, difference
    ):
        key = str(new_id())
        await grant(sessions, books.organization_id, Money(700), key)
        organization_id = new_id() if difference == "organization" else books.organization_id
        amount = Money(701 if difference == "amount" else 700)

        with pytest.raises(Conflict, match="used for another grant"):
            await grant(sessions, organization_id, amount, key)
        assert (await books.columns("customer_balance")).credits_posted == 700

    async def test_forty_at_once_with_one_key_grant_once(self, sessions, books):
        key = str(new_id())
        async with asyncio.TaskGroup() as group:
            grants = [
                group.create_task(grant(sessions, books.organization_id, Money(5), key)) for _ in range(40)
            ]
        assert len({task.result().id for task in grants}) == 1
        assert (await books.columns("customer_balance")).credits_posted == 5

    @pytest.mark.parametrize("amount", [Money(0), Money(-1), Money(1, Asset.USDC)])
    async def test_an_amount_that_is_no_credit_is_refused_by_name(self, sessions, books, amount):
        with pytest.raises(InvalidRequest) as refusal:
            await grant(sessions, books.organization_id, amount, str(new_id()))
        assert refusal.value.param == "amount"

    @pytest.mark.parametrize("key", ["", "k" * 201])
    async def test_a_key_outside_its_length_is_refused_by_name(self, sessions, books, key):
        with pytest.raises(InvalidRequest) as refusal:
            await grant(sessions, books.organization_id, Money(1), key)
        assert refusal.value.param == "key"

    async def test_a_callers_key_cannot_take_the_place_of_a_hold(self, sessions, books):
        """Keys of grants have a prefix of their own, or a grant could block a request's hold."""
        request_id = new_id()
        await grant(sessions, books.organization_id, Money(100), f"hold:{request_id}")
        assert await books.hold(request_id, 60)

    async def test_nothing_is_granted_when_the_transaction_rolls_back(self, sessions, books):
        async with sessions() as session:
            grant = {"organization_id": books.organization_id, "amount": Money(9), "key": str(new_id())}
            await grant_credit(session, **grant, actor_id=None)
            await session.rollback()
        assert (await books.columns("customer_balance")).credits_posted == 0


class TestBalances:
    async def test_who_never_had_credit_has_nothing(self, sessions):
        async with session_scope(sessions) as session:
            assert (await balance(session, new_id())).available == Money(0)
            assert await earnings(session, new_id()) == Money(0)

    async def test_a_hold_is_pending_and_no_longer_available(self, sessions, books):
        await books.fund(1_000)
        await books.hold(new_id(), 300)
        async with session_scope(sessions) as session:
            has = await balance(session, books.organization_id)
        assert (has.posted, has.pending, has.available) == (Money(1_000), Money(300), Money(700))

    async def test_a_balance_is_read_anew_in_the_same_session(self, sessions, books):
        await books.fund(1)
        async with session_scope(sessions) as session:
            # The session knows the account as long as somebody holds on to it.
            _known = await session.get_one(LedgerAccount, await books.account_id("customer_balance"))
            await books.fund(2)
            assert (await balance(session, books.organization_id)).posted == Money(3)


class TestAccountsPage:
    async def test_pages_follow_each_other_without_gaps(self, sessions, books):
        await books.fund(1)
        async with session_scope(sessions) as session:
            everything = [account.id for account in await accounts_page(session, limit=100)]
            first = await accounts_page(session, limit=2)
            second = await accounts_page(session, after=first[-1].id, limit=2)
        assert [account.id for account in (*first, *second)] == everything[:4]

    async def test_one_kind_alone(self, sessions):
        async with session_scope(sessions) as session:
            [loss] = await accounts_page(session, kind=AccountKind.PLATFORM_LOSS)
        assert loss.may_overdraw
        assert loss.owner_id is None
