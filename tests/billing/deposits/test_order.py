"""Events come late, twice and in any order; the books end where the facts are."""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymart_billing.deposits import DepositState, standing_block
from raymart_marketplace.db.session import session_scope
from support.card_market import CardCustomer, CardMarket

Fate = Literal["none", "inquiry", "open", "won", "lost"]
FATES: tuple[Fate, ...] = ("none", "inquiry", "open", "won", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens to one deposit, in cents."""

    amount: int
    paid: bool
    refunded: int
    disputed: Fate

    @property
    def disputed_cents(self) -> int:
        return self.amount - self.refunded

    @property
    def left(self) -> int:
        """What is the customer's in the end."""
        if not self.paid:
            return 0
        gone = self.disputed_cents if self.disputed in {"open", "lost"} else 0
        return self.amount - self.refunded - gone

    @property
    def in_dispute(self) -> int:
        return self.disputed_cents if self.paid and self.disputed == "open" else 0


@st.composite
def stories(draw: st.DrawFn) -> Story:
    amount = draw(st.integers(500, 5_000))
    return Story(
        amount=amount,
        paid=draw(st.sampled_from([True, True, True, False])),
        refunded=draw(st.sampled_from([0, 0, 1, amount // 2, amount - 1])),
        disputed=draw(st.sampled_from(FATES)),
    )


class TestAnyOrder:
    @pytest.mark.parametrize("examples", [6, pytest.param(300, marks=pytest.mark.slow)])
    async def test_ends_in_the_same_books(self, market: CardMarket, examples: int):
        """A shuffled, repeated delivery of everything Stripe has to tell, against the sum of the stories."""

        @settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=True,
        )
        @given(
            st.lists(stories(), min_size=1, max_size=3),
            st.integers(0, 5_000),
            st.randoms(use_true_random=False),
        )
        def check(told: list[Story], spent: int, chance: Any) -> None:
            asyncio.run_coroutine_threadsafe(_run(market, told, spent, chance), loop).result(120)

        loop = asyncio.get_running_loop()
        await asyncio.to_thread(check)
        assert await market.books_balance()


async def _run(market: CardMarket, told: list[Story], spent: int, chance: Any) -> None:
    customer = await market.customer()
    spent = max(spent, 500)
    await market.paid(customer, spent)
    await market.spend(customer, spent)
    first = len(market.stripe.events)
    deposits = [await market.deposit(customer, story.amount) for story in told]
    for story, deposit in zip(told, deposits, strict=True):
        _tell(market, story, deposit.session_id or "")
    events = market.stripe.events[first:]
    deliveries = events + [event for event in events if chance.random() < 0.3]
    chance.shuffle(deliveries)
    for event in deliveries:
        await market.hear(event)
    await _check(market, customer, told)


def _tell(market: CardMarket, story: Story, session_id: str) -> None:
    stripe = market.stripe
    if not story.paid:
        stripe.expire(session_id)
        return
    stripe.pay(session_id)
    if story.refunded:
        stripe.refund_in_dashboard(session_id, story.refunded)
    if story.disputed == "none":
        return
    begun = "warning_needs_response" if story.disputed == "inquiry" else "needs_response"
    dispute_id, _ = stripe.dispute(session_id, cents=story.disputed_cents, status=begun)
    if story.disputed != "inquiry":
        stripe.dispute_moves(dispute_id, status="needs_response", kind="funds_withdrawn")
        stripe.dispute_moves(dispute_id, status="under_review", kind="updated")
    if story.disputed in {"won", "lost"}:
        stripe.dispute_moves(dispute_id, status=story.disputed, kind="closed")


async def _check(market: CardMarket, customer: CardCustomer, told: list[Story]) -> None:
    """New money pays a debt first, so that a customer has a balance or a debt, never both."""
    credited = sum(story.amount - story.refunded for story in told if story.paid)
    taken = sum(story.disputed_cents for story in told if story.paid and story.disputed in {"open", "lost"})
    net = credited - taken
    wanted = {
        "customer_balance": max(net, 0),
        "customer_receivable": min(net, 0),
        "customer_dispute": sum(story.in_dispute for story in told),
    }
    found = await market.balances(customer)
    assert found == {kind: cents for kind, cents in wanted.items() if cents}, told
    async with session_scope(market.sessions) as session:
        block = await standing_block(session, customer.organization_id)
    assert (block is not None) == (net < 0 or any(story.in_dispute for story in told)), told


class TestLate:
    @pytest.mark.parametrize("decided", ["won", "lost"])
    async def test_news_from_before_does_not_open_a_closed_dispute(
        self, market: CardMarket, customer: CardCustomer, decided: str
    ):
        deposit = await market.paid(customer, 2_000)
        dispute_id, opened = market.stripe.dispute(deposit.session_id)
        reviewed = market.stripe.dispute_moves(dispute_id, status="under_review", kind="updated")
        closed = market.stripe.dispute_moves(dispute_id, status=decided, kind="closed")
        for event in (closed, reviewed, opened):
            await market.hear(event)
        assert (await market.dispute(dispute_id)).status == decided
        assert await market.balances(customer) == ({"customer_balance": 2_000} if decided == "won" else {})


class TestEarly:
    async def test_dispute_that_is_heard_of_before_the_payment_waits_for_it(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.deposit(customer, 2_000)
        paid = market.stripe.pay(deposit.session_id)
        _, disputed = market.stripe.dispute(deposit.session_id)
        refunded = market.stripe.refund_in_dashboard(deposit.session_id, 500)
        await market.hear(disputed)
        await market.hear(refunded)
        assert await market.transfers(customer) == []
        await market.hear(paid)
        assert [code for code, _ in await market.transfers(customer)] == [
            "deposit_card", "deposit_refund", "dispute_opened", "dispute_shortfall",
        ]  # fmt: skip

    async def test_refunds_that_are_heard_of_before_the_payment_count_by_the_largest(
        self, market: CardMarket, customer: CardCustomer
    ):
        """Each tells what was paid back in all until then; a smaller one that comes later is old news."""
        deposit = await market.deposit(customer, 2_000)
        paid = market.stripe.pay(deposit.session_id)
        events = [market.stripe.refund_in_dashboard(deposit.session_id, 300) for _ in range(3)]
        for event in [*reversed(events), paid]:
            await market.hear(event)
        assert await market.balances(customer) == {"customer_balance": 1_100}

    async def test_payment_and_dispute_at_the_same_moment_find_each_other(self, market: CardMarket):
        """Neither sees what the other has not committed: the payment's lock makes one wait for the other."""
        for _ in range(5):
            customer = await market.customer()
            deposit = await market.deposit(customer, 2_000)
            paid = market.stripe.pay(deposit.session_id)
            _, disputed = market.stripe.dispute(deposit.session_id)
            await asyncio.gather(market.hear(paid), market.hear(disputed))
            assert await market.balances(customer) == {"customer_dispute": 2_000}

    async def test_expiry_that_is_told_after_the_payment_changes_nothing(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.paid(customer, 2_000)
        event = market.stripe.expire(deposit.session_id)
        event["data"]["object"]["payment_status"] = "unpaid"
        await market.hear(event)
        assert (await market.now(deposit)).state is DepositState.CREDITED

    async def test_payment_that_is_told_after_the_expiry_counts(
        self, market: CardMarket, customer: CardCustomer
    ):
        deposit = await market.deposit(customer, 2_000)
        late = market.stripe.pay(deposit.session_id)
        expired = market.stripe._event(
            "checkout.session.expired",
            {**market.stripe.objects[deposit.session_id], "status": "expired", "payment_status": "unpaid"},
        )
        await market.hear(expired)
        assert (await market.now(deposit)).state is DepositState.EXPIRED
        await market.hear(late)
        assert (await market.now(deposit)).state is DepositState.CREDITED
