"""The statement adds up line by line."""

from raymart_billing.ledger import TransferCode, statement
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope


async def lines_of(sessions, account_id, **page):
    async with session_scope(sessions) as session:
        return list(await statement(session, account_id, **page))


class TestStatement:
    async def test_each_line_carries_the_balance_after_it(self, sessions, books):
        for amount in (100, 20, 3):
            await books.fund(amount)
        lines = await lines_of(sessions, await books.account_id("customer_balance"))
        assert [(line.change.amount, line.balance.amount) for line in lines] == [
            (3, 123),
            (20, 120),
            (100, 100),
        ]
        assert {line.code for line in lines} == {TransferCode.CREDIT_GRANT}
        assert {line.counter_account_id for line in lines} == {await books.account_id("promotional_credit")}

    async def test_money_that_leaves_is_negative_and_holds_are_no_lines(self, sessions, books):
        await books.fund(100)
        captured, released = new_id(), new_id()
        await books.hold(captured, 40)
        await books.hold(released, 50)
        await books.capture({captured: 30})
        await books.value("select ledger_void_hold(%s)", f"hold:{released}")

        lines = await lines_of(sessions, await books.account_id("customer_balance"))
        assert [(line.change.amount, line.balance.amount) for line in lines] == [(-30, 70), (100, 100)]

    async def test_pages_continue_with_the_balance_of_their_place(self, sessions, books):
        for _ in range(5):
            await books.fund(10)
        account_id = await books.account_id("customer_balance")
        first = await lines_of(sessions, account_id, limit=2)
        rest = await lines_of(sessions, account_id, before=first[-1].transfer_id)
        assert [line.balance.amount for line in (*first, *rest)] == [50, 40, 30, 20, 10]

    async def test_an_account_without_transfers_has_no_lines(self, sessions, books):
        assert await lines_of(sessions, await books.account_id("provider_payable")) == []
