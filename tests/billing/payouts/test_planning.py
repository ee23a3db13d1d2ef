"""From earnings to batches, on a database of this file's own: an epoch is everybody's."""

import asyncio
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymart_billing.connections import Pool, make_pool
from raymart_billing.payout_wallets import NotPayable, NoWallet, PayableWallet
from raymart_billing.payouts.cancelling import cancel_batch, give_back
from raymart_billing.payouts.earnings import draw_earnings, release_matured
from raymart_billing.payouts.epochs import boundary_before, close_epoch_now
from raymart_billing.payouts.models import UnpaidReason
from raymart_billing.payouts.planning import Candidate, Circumstances, Payee, decide, filled, plan_epoch
from raymart_billing.payouts.policy import RulesChange, present_policy, set_policy
from raymart_billing.payouts.running import Planned, run_due, run_now
from raymart_billing.payouts.trust import set_trust
from raymart_core.clock import now
from raymart_core.errors import Unavailable
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions, session_scope
from raymart_marketplace.oversight.models import SubjectKind
from raymart_marketplace.oversight.suspension import suspend
from support.own_database import database_url, owner_url
from support.payout_batches import MINT
from support.payout_wallets import choose, make_payee
from support.provider_earnings import USD, Earners
from support.provider_earnings import Money as Accounts

__all__ = ["database_url", "owner_url"]

MICRO = 1_000


def usdc(amount: int) -> Money:
    return Money(amount, Asset.USDC)


@pytest.fixture
def earners(pool: Pool, sessions: Sessions) -> Earners:
    return Earners(pool, sessions)


async def end_epoch(sessions: Sessions) -> Planned:
    return await run_now(sessions, mint=MINT, ends_epoch=True, created_by=None)


async def replan(sessions: Sessions) -> Planned:
    return await run_now(sessions, mint=MINT, ends_epoch=False, created_by=None)


class TestDecide:
    """What is decided of one provider, without a database."""

    provider_id = new_id()
    wallet = PayableWallet(
        wallet_id=new_id(), address="1" * 32, chosen_at=now(), payable_from=now(), warnings=()
    )

    def found(self, **changes: object) -> Circumstances:
        values = {"withheld": frozenset(), "flagged": frozenset(), "wallets": {self.provider_id: self.wallet}}
        return Circumstances(**values | changes)

    def candidate(self, payable: int, earned: int = 1) -> Candidate:
        return Candidate(earning_id=new_id(), provider_id=self.provider_id, earned=earned, payable=payable)

    @given(payable=st.integers(0, 10**15))
    def test_whole_micro_usdc_are_paid_and_less_than_one_stays(self, payable: int):
        match decide(self.candidate(payable), self.found(), minimum=usdc(1)):
            case Payee(amount=amount):
                assert 0 <= payable - amount.amount * MICRO < MICRO
            case None:
                assert payable < MICRO

    def test_the_minimum_itself_is_paid(self):
        assert isinstance(decide(self.candidate(5 * MICRO), self.found(), minimum=usdc(5)), Payee)
        assert (
            decide(self.candidate(5 * MICRO - 1), self.found(), minimum=usdc(5)) is UnpaidReason.BELOW_MINIMUM
        )

    def test_who_owes_is_told_so(self):
        assert (
            decide(self.candidate(0, earned=-7), self.found(), minimum=usdc(1)) is UnpaidReason.BALANCE_OWED
        )
        assert (
            decide(self.candidate(-7, earned=-7), self.found(), minimum=usdc(1)) is UnpaidReason.BALANCE_OWED
        )

    def test_suspended_and_flagged_come_before_everything_else(self):
        mine = frozenset({self.provider_id})
        none = {self.provider_id: NotPayable(reason=NoWallet.NONE_CHOSEN)}
        found = self.found(withheld=mine, flagged=mine, wallets=none)
        assert decide(self.candidate(9 * MICRO), found, minimum=usdc(1)) is UnpaidReason.SUSPENDED
        found = self.found(flagged=mine, wallets=none)
        assert decide(self.candidate(9 * MICRO), found, minimum=usdc(1)) is UnpaidReason.FLAGGED_USAGE

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            (NoWallet.NONE_CHOSEN, UnpaidReason.NO_WALLET),
            (NoWallet.PROOF_WITHDRAWN, UnpaidReason.NO_WALLET),
            (NoWallet.COOLING_DOWN, UnpaidReason.WALLET_COOLING_DOWN),
            (NoWallet.UNCHECKED, UnpaidReason.WALLET_UNUSABLE),
            (NoWallet.CHECKS_FAILED, UnpaidReason.WALLET_UNUSABLE),
        ],
    )
    def test_a_wallet_that_cannot_be_paid_is_named(self, reason, expected):
        found = self.found(wallets={self.provider_id: NotPayable(reason=reason)})
        assert decide(self.candidate(9 * MICRO), found, minimum=usdc(1)) is expected


class TestFilled:
    @given(
        amounts=st.lists(st.integers(1, 50), min_size=1, max_size=30),
        cap=st.integers(1, 100),
        room=st.integers(0, 100),
    )
    def test_keeps_everybody_in_order_and_every_list_within_its_room(self, amounts, cap, room):
        payees = [
            Payee(
                candidate=Candidate(earning_id=new_id(), provider_id=new_id(), earned=1, payable=1),
                wallet="w",
                amount=usdc(amount),
            )
            for amount in amounts
        ]
        lists = filled(payees, room=usdc(min(room, cap)), cap=usdc(cap))
        assert [payee for group in lists for payee in group] == payees
        for number, group in enumerate(lists):
            total = sum(payee.amount.amount for payee in group)
            limit = min(room, cap) if number == 0 else cap
            assert total <= limit or (len(group) == 1 and limit == cap)


class TestBoundary:
    def test_epochs_of_a_week_end_on_mondays(self):
        moment = now()
        found = boundary_before(moment, epoch_hours=168)
        assert found <= moment < found + timedelta(days=7)
        assert (found.weekday(), found.hour, found.minute) == (0, 0, 0)


class TestEpoch:
    async def test_pays_what_was_earned_without_the_holdback_and_keeps_the_dust(self, earners, sessions):
        payee = await earners.provider()
        await earners.earn(payee, 20 * USD + 999)
        planned = await end_epoch(sessions)
        # A tenth of 20.000000999 rounded down is 2.000000099; 18.0000009 are left, of which 18.000000 are paid.
        assert await earners.money(payee) == Accounts(900, 2 * USD + 99, 18 * USD)
        assert await earners.items(payee) == [18_000_000]
        assert await earners.unpaid_reason(payee) is None
        [[state, created_by, total, payees]] = await earners.books.fetch(
            "select state, created_by, total_micro_usdc, payees from payout_batch where id = any (%s)",
            list(planned.plan.batches),
        )
        assert (state, created_by) == ("planned", None)
        assert (total, payees) == (18_000_000, 1)

    async def test_what_was_earned_after_it_belongs_to_the_next(self, earners, sessions):
        payee = await earners.provider()
        await earners.earn(payee, 20 * USD)
        async with session_scope(sessions) as session:
            epoch = await close_epoch_now(session, epoch_hours=168)
        await earners.earn(payee, 5 * USD)
        await draw_earnings(sessions, epoch.id)
        await earners.earn(payee, 7 * USD)
        await plan_epoch(sessions, epoch.id, mint=MINT, created_by=None)
        assert await earners.items(payee) == [18_000_000]
        assert await earners.money(payee) == Accounts(12 * USD, 2 * USD, 18 * USD)
        await end_epoch(sessions)
        assert await earners.items(payee) == [18_000_000, 10_800_000]
        ranges = await earners.books.fetch(
            "select after_transfer_id, upto_transfer_id, gross_nano_usd from earning where provider_id = %s order by id",
            payee.provider_id,
        )
        assert [gross for *_, gross in ranges] == [20 * USD, 12 * USD]
        assert ranges[0][0] == 0
        assert ranges[1][0] == ranges[0][1]

    async def test_refunds_that_came_after_it_are_taken_off_at_once(self, earners, sessions):
        payee = await earners.provider()
        await earners.earn(payee, 20 * USD)
        async with session_scope(sessions) as session:
            epoch = await close_epoch_now(session, epoch_hours=168)
        await draw_earnings(sessions, epoch.id)
        await earners.claw_back(payee, 3 * USD)
        await plan_epoch(sessions, epoch.id, mint=MINT, created_by=None)
        assert await earners.items(payee) == [15_000_000]

    async def test_less_than_the_minimum_is_carried_over(self, earners, sessions):
        payee = await earners.provider()
        await earners.earn(payee, USD)
        await end_epoch(sessions)
        assert (await earners.items(payee), await earners.unpaid_reason(payee)) == ([], "below_minimum")
        await earners.earn(payee, USD)
        await end_epoch(sessions)
        assert await earners.items(payee) == [1_800_000]
        assert await earners.unpaid_reason(payee) is None

    async def test_more_taken_than_earned_is_a_balance_owed(self, earners, sessions):
        payee = await earners.provider()
        await earners.earn(payee, USD)
        await end_epoch(sessions)
        await earners.claw_back(payee, USD // 2)
        await end_epoch(sessions)
        assert await earners.unpaid_reason(payee) == "balance_owed"
        assert await earners.money(payee) == Accounts(4 * USD // 10, USD // 10, 0)

    async def test_a_repeat_pays_nobody_twice(self, earners, sessions):
        payee = await earners.provider()
        await earners.earn(payee, 20 * USD)
        await end_epoch(sessions)
        again = await replan(sessions)
        assert again.plan.paid == 0
        assert await earners.items(payee) == [18_000_000]

    async def test_without_solana_it_says_so(self, sessions):
        with pytest.raises(Unavailable, match="SOLANA_RPC_URL"):
            await run_now(sessions, mint=None, ends_epoch=True, created_by=None)


class TestNotPaid:
    async def test_without_a_wallet(self, earners, sessions):
        async with session_scope(sessions) as session:
            payee = await make_payee(session)
        await earners.earn(payee, 20 * USD)
        await end_epoch(sessions)
        assert (await earners.items(payee), await earners.unpaid_reason(payee)) == ([], "no_wallet")
        assert await earners.money(payee) == Accounts(18 * USD, 2 * USD, 0)

    async def test_with_a_wallet_that_nobody_looked_at_and_then_on_demand(self, earners, sessions):
        async with session_scope(sessions) as session:
            payee = await make_payee(session)
            wallet = await choose(session, payee, payee.wallet)
        await earners.earn(payee, 20 * USD)
        first = await end_epoch(sessions)
        assert await earners.unpaid_reason(payee) == "wallet_unusable"
        assert not first.plan.batches
        await earners.books.fetch(
            "update payout_wallet set check_state = 'passed', checked_at = now() where id = %s", wallet.id
        )
        second = await replan(sessions)
        assert second.epoch.id == first.epoch.id
        assert (await earners.items(payee), await earners.unpaid_reason(payee)) == ([18_000_000], None)

    async def test_suspended(self, earners, sessions):
        payee = await earners.provider()
        await earners.earn(payee, 20 * USD)
        async with session_scope(sessions) as session:
            await suspend(
                session, SubjectKind.PROVIDER, payee.provider_id, reason="r", actor_id=payee.owner_id
            )
        await end_epoch(sessions)
        assert (await earners.items(payee), await earners.unpaid_reason(payee)) == ([], "suspended")

    async def test_with_flagged_usage_until_it_is_cleared(self, earners, sessions):
        payee = await earners.provider()
        request_id = await earners.earn(payee, 20 * USD)
        await flag(earners, payee, request_id)
        await end_epoch(sessions)
        assert (await earners.items(payee), await earners.unpaid_reason(payee)) == ([], "flagged_usage")
        await earners.books.fetch(
            "update usage_flag set cleared_at = now(), cleared_by = actor_id, cleared_reason = 'r' where usage_id = %s",
            request_id,
        )
        await replan(sessions)
        assert await earners.items(payee) == [18_000_000]


async def flag(earners: Earners, payee, request_id: UUID) -> None:
    await earners.books.fetch(
        "insert into usage_flag (id, usage_id, organization_id, provider_id, reason, actor_id) values (%s, %s, %s, %s, 'r', %s)",
        new_id(),
        request_id,
        payee.organization_id,
        payee.provider_id,
        payee.owner_id,
    )


class TestHoldback:
    async def test_comes_back_when_its_time_is_over_once(self, earners, sessions, quick):
        payee = await earners.provider()
        await earners.earn(payee, 20 * USD)
        await end_epoch(sessions)
        assert await earners.money(payee) == Accounts(18 * USD - 18 * USD, 2 * USD, 18 * USD)
        quick(payee)
        released = await asyncio.gather(release_matured(sessions), release_matured(sessions))
        assert sorted(released) == [0, 1]
        assert await earners.money(payee) == Accounts(2 * USD, 0, 18 * USD)
        await end_epoch(sessions)
        assert await earners.items(payee) == [18_000_000, 2_000_000]

    async def test_stays_before_its_time_and_while_usage_is_under_review(self, earners, sessions, quick):
        payee = await earners.provider()
        request_id = await earners.earn(payee, 20 * USD)
        await end_epoch(sessions)
        assert await release_matured(sessions) == 0
        quick(payee)
        await flag(earners, payee, request_id)
        assert await release_matured(sessions) == 0
        assert (await earners.money(payee)).reserve == 2 * USD

    async def test_is_smaller_and_shorter_for_who_is_trusted(self, earners, sessions):
        payee = await earners.provider()
        async with session_scope(sessions) as session:
            await set_trust(session, payee.provider_id, score=90, reason="years of it", actor_id=None)
        await earners.earn(payee, 20 * USD)
        planned = await end_epoch(sessions)
        [[kept, matures_at]] = await earners.books.fetch(
            "select holdback_nano_usd, matures_at from earning where provider_id = %s", payee.provider_id
        )
        assert (kept, matures_at - planned.epoch.ends_at) == (USD, timedelta(days=3))


@pytest.fixture
def quick(owner_url: str):
    """Lets the time of providers' holdbacks be over."""
    return lambda *payees: let_mature(owner_url, payees)


def let_mature(owner_url: str, payees) -> None:
    """As if the time of the providers' holdbacks were over: only the database's owner can do this."""
    with psycopg.connect(owner_url) as connection:
        connection.execute("set local session_replication_role = replica")
        connection.execute(
            "update earning set matures_at = now() - interval '1 second'"
            " where holdback_nano_usd > 0 and provider_id = any (%s)",
            ([payee.provider_id for payee in payees],),
        )


class TestCaps:
    async def test_a_batch_that_is_full_is_followed_by_another(self, earners, sessions):
        async with session_scope(sessions) as session:
            policy = await present_policy(session)
            await set_policy(
                session,
                RulesChange(batch_cap=usdc(40_000_000)),
                version=policy.version,
                reason="r",
                actor_id=None,
            )
        payees = [await earners.provider() for _ in range(5)]
        for payee in payees:
            await earners.earn(payee, 20 * USD)
        planned = await end_epoch(sessions)
        totals = await earners.books.fetch(
            "select total_micro_usdc, payees, state from payout_batch where id = any (%s) order by number",
            list(planned.plan.batches),
        )
        assert totals == [(36_000_000, 2, "planned"), (36_000_000, 2, "planned"), (18_000_000, 1, "planned")]
        async with session_scope(sessions) as session:
            policy = await present_policy(session)
            change = RulesChange(batch_cap=usdc(50_000_000_000))
            await set_policy(session, change, version=policy.version, reason="r", actor_id=None)


class TestRunDue:
    async def test_plans_an_epoch_once_and_again_only_what_a_dead_run_left(self, earners, sessions):
        payee = await earners.provider()
        await earners.earn(payee, 20 * USD)
        await end_epoch(sessions)
        assert await run_due(sessions, mint=MINT) is None
        [[batch_id]] = await earners.books.fetch(
            "select batch_id from payout_item where provider_id = %s", payee.provider_id
        )
        await earners.books.fetch(
            "update payout_batch set state = 'held', hold_reason = 'its payees are being planned' where id = %s",
            batch_id,
        )
        assert await run_due(sessions, mint=MINT) is not None
        assert (
            await earners.books.value("select state from payout_batch where id = %s", batch_id) == "planned"
        )


class TestConcurrentPlanners:
    async def test_nobody_is_paid_twice_and_the_batch_is_whole(self, earners, sessions, monkeypatch):
        monkeypatch.setattr("raymart_billing.payouts.planning.CHUNK_PROVIDERS", 2)
        monkeypatch.setattr("raymart_billing.payouts.earnings.CHUNK_PROVIDERS", 2)
        payees = [await earners.provider() for _ in range(7)]
        for payee in payees:
            await earners.earn(payee, 20 * USD)
        async with session_scope(sessions) as session:
            epoch = await close_epoch_now(session, epoch_hours=168)
        drawn = await asyncio.gather(*(draw_earnings(sessions, epoch.id) for _ in range(3)))
        plans = await asyncio.gather(
            *(plan_epoch(sessions, epoch.id, mint=MINT, created_by=None) for _ in range(3))
        )
        assert sum(plan.paid for plan in plans) == 7
        assert sum(drawn) >= 7
        for payee in payees:
            assert await earners.items(payee) == [18_000_000]
        wrong = await earners.books.fetch(SUMS)
        assert wrong == []


SUMS = """
    select b.number from payout_batch b
     where (b.total_micro_usdc, b.payees) <> (
        select sum(i.amount_micro_usdc), count(*) from payout_item i where i.batch_id = b.id and i.state <> 'returned'
     ) and b.state <> 'cancelled'
"""


def histories() -> st.SearchStrategy[list[tuple[str, int, int]]]:
    """What happens to two providers: (what, to whom, how much)."""
    return st.lists(
        st.one_of(
            st.tuples(st.just("earn"), st.integers(0, 1), st.integers(1, 30 * USD)),
            st.tuples(st.just("claw_back"), st.integers(0, 1), st.integers(1, 10 * USD)),
            st.tuples(st.sampled_from(["end", "replan", "mature", "cancel"]), st.just(0), st.just(0)),
        ),
        min_size=1,
        max_size=14,
    )


class TestInvariant:
    """Whatever happens: what a provider earned is paid, on its way, kept back, carried over or not yet closed."""

    @settings(
        max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )
    @given(steps=histories())
    def test_books_and_batches_agree(self, database_url, owner_url, steps):
        asyncio.run(history(database_url, owner_url, steps))

    @pytest.mark.slow
    @settings(
        max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )
    @given(steps=histories())
    def test_books_and_batches_agree_over_many_histories(self, database_url, owner_url, steps):
        asyncio.run(history(database_url, owner_url, steps))


async def history(database_url: str, owner_url: str, steps) -> None:
    engine = make_engine(database_url, pool_size=2)
    async with make_pool(database_url, size_max=3, name="history") as pool:
        earners = Earners(pool, make_sessions(engine))
        payees = [await earners.provider() for _ in range(2)]
        earned = [0, 0]
        for step in steps:
            earned[step[1]] += await happen(earners, owner_url, payees, step)
            for payee, total in zip(payees, earned, strict=True):
                await agrees(earners, payee, total)
        assert await earners.books.fetch(SUMS) == []
    await engine.dispose()


async def happen(earners: Earners, owner_url: str, payees, step: tuple[str, int, int]) -> int:
    """One step of a history; by how much it changed what its payee has earned."""
    what, who, amount = step
    payee = payees[who]
    match what:
        case "earn":
            await earners.earn(payee, amount)
            return amount
        case "claw_back":
            taken = min(amount, (await earners.money(payee)).payable)
            if taken:
                await earners.claw_back(payee, taken)
            return -taken
        case "end":
            await end_epoch(earners.sessions)
        case "replan":
            if await earners.books.fetch("select from epoch"):
                await replan(earners.sessions)
        case "mature":
            let_mature(owner_url, payees)
            await release_matured(earners.sessions)
        case "cancel":
            await cancel_all(earners, payees)
    return 0


async def cancel_all(earners: Earners, payees) -> None:
    """Every batch of theirs that waits for people is cancelled."""
    rows = await earners.books.fetch(
        "select distinct b.id from payout_batch b join payout_item i on i.batch_id = b.id"
        " where b.state = 'planned' and i.provider_id = any (%s)",
        [payee.provider_id for payee in payees],
    )
    for (batch_id,) in rows:
        async with session_scope(earners.sessions) as session:
            await cancel_batch(session, batch_id, reason="r", actor_id=None)
        await give_back(earners.sessions, batch_id)


async def agrees(earners: Earners, payee, earned: int) -> None:
    money = await earners.money(payee)
    items = await earners.items(payee)
    assert sum(money) == earned
    assert sum(items) * MICRO == money.clearing
    [[held, closed]] = await earners.books.fetch(
        "select coalesce(sum(holdback_nano_usd) filter (where released_at is null), 0)::bigint,"
        " coalesce(sum(gross_nano_usd - clawback_nano_usd), 0)::bigint from earning where provider_id = %s",
        payee.provider_id,
    )
    assert held == money.reserve
    accrued = earned - closed
    carried = closed - money.reserve - money.clearing
    assert money.payable == carried + accrued
    per_epoch = await earners.books.fetch(
        "select epoch_id from payout_item where provider_id = %s and state <> 'returned' group by epoch_id having count(*) > 1",
        payee.provider_id,
    )
    assert per_epoch == []
