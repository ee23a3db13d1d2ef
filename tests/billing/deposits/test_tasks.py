"""What a dead process left is finished by any worker, from rows alone."""

from datetime import timedelta

from sqlalchemy import text
from tests.billing.deposits.test_refunds import ask, state

from raymart_billing.deposits import DepositState, TooEarly, receive
from raymart_billing.deposits.tasks import PERIODICS, TASKS
from raymart_marketplace.db.session import session_scope
from support.background import running_worker
from support.card_market import CardCustomer, CardMarket, read
from support.fake_stripe import API_KEY, WEBHOOK_SECRET


def card(market: CardMarket) -> dict[str, object]:
    return {
        "stripe_api_key": API_KEY,
        "stripe_webhook_secrets": WEBHOOK_SECRET,
        "stripe_api_base": market.stripe.url,
    }


async def work_off(market: CardMarket, url: str, task: str, subject: str) -> tuple[str, str | None]:
    """Let a worker run the row of this task and subject once; the row's state and last error."""
    find = text("select id from outbox where task = :task and subject = :subject")
    async with session_scope(market.sessions) as session:
        outbox_id = (await session.execute(find, {"task": task, "subject": subject})).scalar_one()
    async with running_worker(url, tasks=TASKS, **card(market)) as worker:
        await worker.drain(outbox_id)
    async with session_scope(market.sessions) as session:
        row = (
            await session.execute(
                text("select state, last_error from outbox where id = :id"), {"id": outbox_id}
            )
        ).one()
    return row.state, row.last_error


class TestApplyEvent:
    async def test_event_that_was_acknowledged_and_not_applied_is_applied(
        self, market: CardMarket, customer: CardCustomer, database_url: str
    ):
        """Dead between the commit and the rest; Stripe got its answer, or sends the event again: both are one effect."""
        deposit = await market.deposit(customer, 2_000)
        event = market.stripe.pay(deposit.session_id)
        async with session_scope(market.sessions) as session:
            assert await receive(session, read(event))
        assert await market.balances(customer) == {}
        assert not await market.hear(event), "a repeat is told that it is one"
        assert await work_off(market, database_url, "deposits.apply_event", event["id"]) == ("done", None)
        assert await market.balances(customer) == {"customer_balance": 2_000}

    async def test_event_that_comes_too_early_is_tried_again(
        self, market: CardMarket, customer: CardCustomer, database_url: str, owner_url: str
    ):
        deposit = await market.deposit(customer, 2_000)
        await market.forget_page(owner_url, deposit)
        event = market.stripe.pay(deposit.session_id)
        await market.hear(event)
        status, error = await work_off(market, database_url, "deposits.apply_event", event["id"])
        assert status == "ready"
        assert TooEarly.__name__ in (error or "")

    async def test_rolled_back_receipt_leaves_nothing(self, market: CardMarket, customer: CardCustomer):
        deposit = await market.deposit(customer, 2_000)
        event = market.stripe.pay(deposit.session_id)
        async with market.sessions() as session:
            assert await receive(session, read(event))
            await session.rollback()
        assert await market.hear(event), "the next delivery is the first"
        assert (await market.now(deposit)).state is DepositState.CREDITED


class TestSendRefund:
    async def test_requested_refund_is_sent(
        self, market: CardMarket, customer: CardCustomer, database_url: str
    ):
        deposit = await market.paid(customer, 2_000)
        refund_id = await ask(market, deposit, 500)
        assert await work_off(market, database_url, "deposits.send_refund", str(refund_id)) == ("done", None)
        assert await state(market, refund_id) == "succeeded"
        assert market.stripe.charge_of(deposit.session_id)["amount_refunded"] == 500

    async def test_stripe_away_keeps_it_waiting(
        self, market: CardMarket, customer: CardCustomer, database_url: str
    ):
        deposit = await market.paid(customer, 2_000)
        refund_id = await ask(market, deposit, 500)
        # More than one look of the client's needs: the worker may look again before it ends.
        market.stripe.faults.extend(["drop_before"] * 30)
        status, error = await work_off(market, database_url, "deposits.send_refund", str(refund_id))
        market.stripe.faults.clear()
        assert (status, await state(market, refund_id)) == ("ready", "requested")
        assert "processor is away" in (error or "")


class TestDeclared:
    def test_every_effect_that_is_asked_for_has_a_task(self):
        assert {task.name for task in TASKS} == {"deposits.apply_event", "deposits.send_refund"}
        assert {periodic.name for periodic in PERIODICS} == {
            "deposits.check", "deposits.replay_events", "deposits.settle_debts",
        }  # fmt: skip
        assert all(timedelta(seconds=periodic.timeout_s) < timedelta(minutes=5) for periodic in PERIODICS)
