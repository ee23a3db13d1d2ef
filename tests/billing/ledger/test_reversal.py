"""Mistakes are undone by their mirrors, with a reason, once."""

import asyncio

import pytest

from raymart_billing.ledger import balance, reverse
from raymart_core.errors import Conflict, InsufficientFunds, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_marketplace.db.session import session_scope


async def reversed_(sessions, *ids, reason="granted twice", actor_id=None):
    async with session_scope(sessions) as session:
        return await reverse(session, ids, reason=reason, actor_id=actor_id)


@pytest.fixture
async def grant_id(books):
    await books.fund(1_000)
    return await books.value(
        "select max(id) from transfer where credit_account_id = %s",
        await books.account_id("customer_balance"),
    )


class TestReverse:
    async def test_the_money_goes_back_and_the_reason_stays(self, sessions, books, grant_id):
        actor_id = new_id()
        [mirror] = await reversed_(sessions, grant_id, actor_id=actor_id)
        assert (mirror.reverses_id, mirror.reason, mirror.actor_id) == (grant_id, "granted twice", actor_id)
        assert mirror.amount == 1_000
        async with session_scope(sessions) as session:
            assert (await balance(session, books.organization_id)).posted == Money(0)

    async def test_a_repeat_returns_the_first_reversal(self, sessions, books, grant_id):
        [first] = await reversed_(sessions, grant_id)
        [again] = await reversed_(sessions, grant_id)
        assert again.id == first.id
        assert (await books.columns("customer_balance")).debits_posted == 1_000

    async def test_twenty_at_once_reverse_once(self, sessions, books, grant_id):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reversed_(sessions, grant_id)) for _ in range(20)]
        assert len({task.result()[0].id for task in tasks}) == 1
        assert (await books.columns("customer_balance")).debits_posted == 1_000

    @pytest.mark.parametrize("change", [{"reason": "other"}, {"actor_id": new_id()}])
    async def test_another_reason_or_actor_is_a_conflict(self, sessions, grant_id, change):
        await reversed_(sessions, grant_id)
        with pytest.raises(Conflict, match="reversed before"):
            await reversed_(sessions, grant_id, **change)

    async def test_money_that_was_spent_cannot_go_back(self, sessions, books, grant_id):
        await books.hold(new_id(), 1)
        with pytest.raises(InsufficientFunds, match="customer_balance"):
            await reversed_(sessions, grant_id)

    async def test_a_usage_goes_back_whole_and_not_in_parts(self, sessions, books, grant_id):
        request_id = new_id()
        await books.hold(request_id, 500)
        await books.capture({request_id: 300})
        legs = [
            number
            for (number,) in await books.fetch(
                "select id from transfer where key like %s and state = 'posted' order by id",
                f"usage:{request_id}%",
            )
        ]
        with pytest.raises(InsufficientFunds, match="usage_clearing"):
            await reversed_(sessions, legs[0])
        assert len(await reversed_(sessions, *legs)) == 3
        assert (await books.columns("customer_balance")).balance == 1_000
        assert (await books.columns("provider_payable")).balance == 0

    async def test_a_hold_is_voided_and_not_reversed(self, sessions, books, grant_id):
        with pytest.raises(InvalidRequest, match="void a hold"):
            await reversed_(sessions, await books.hold(new_id(), 5))

    async def test_a_reversal_is_not_reversed(self, sessions, grant_id):
        [mirror] = await reversed_(sessions, grant_id)
        with pytest.raises(InvalidRequest, match="post anew"):
            await reversed_(sessions, mirror.id)

    async def test_an_unknown_transfer_is_not_found(self, sessions):
        with pytest.raises(NotFound, match="no transfer"):
            await reversed_(sessions, 2**62)

    @pytest.mark.parametrize("reason", ["", "   ", "r" * 501])
    async def test_a_reason_is_required(self, sessions, grant_id, reason):
        with pytest.raises(InvalidRequest) as refusal:
            await reversed_(sessions, grant_id, reason=reason)
        assert refusal.value.param == "reason"

    @pytest.mark.parametrize("size", [0, 1_001])
    async def test_a_batch_outside_its_size_is_refused(self, sessions, size):
        with pytest.raises(InvalidRequest, match=f"not {size}"):
            await reversed_(sessions, *range(size))
