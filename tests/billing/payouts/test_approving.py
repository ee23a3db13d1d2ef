"""What people do with batches: approve, hold, release, split, cancel."""

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_billing.connections import Pool
from raymart_billing.payouts.approving import PartLimits, approve_batch, cut
from raymart_billing.payouts.batches import hold_batch, release_batch, split_batch
from raymart_billing.payouts.cancelling import cancel_batch, give_back
from raymart_billing.payouts.models import BatchState
from raymart_billing.payouts.planning import Plan
from raymart_billing.payouts.policy import RulesChange, present_policy, set_policy
from raymart_billing.payouts.policy_models import SwitchSource
from raymart_billing.payouts.running import run_now
from raymart_billing.payouts.switch import pause, resume, standing_stops
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.db.session import Sessions, session_scope
from support.own_database import database_url, owner_url
from support.payout_batches import MINT, MadeBatch, PayoutBatches, address
from support.provider_earnings import USD, Earners

__all__ = ["database_url", "owner_url"]

LIMITS = PartLimits(payees_max=57, total_max=Money(25_000_000_000, Asset.USDC))


def usdc(amount: int) -> Money:
    return Money(amount, Asset.USDC)


class TestCut:
    @given(
        amounts=st.lists(st.integers(1, 50), max_size=60),
        payees_max=st.integers(1, 9),
        total_max=st.integers(1, 120),
    )
    def test_everybody_is_in_one_part_and_no_part_carries_too_much(self, amounts, payees_max, total_max):
        limits = PartLimits(payees_max=payees_max, total_max=usdc(total_max))
        parts = cut(amounts, limits)
        assert [place for part in parts for place in part] == list(range(len(amounts)))
        for part, following in zip(parts, [*parts, range(0)][1:], strict=False):
            total = sum(amounts[place] for place in part)
            assert 1 <= len(part) <= payees_max
            assert total <= total_max or len(part) == 1
            if following:
                # None is cut earlier than it must be.
                assert len(part) == payees_max or total + amounts[following.start] > total_max

    def test_ten_thousand_payees_are_176_transactions(self):
        assert len(cut([1] * 10_000, LIMITS)) == 176


class TestApprove:
    async def test_cuts_parts_and_asks_for_each_to_be_sent(self, batches: PayoutBatches, sessions: Sessions):
        batch = await batches.batch(*[1_000_000] * 5, created_by=await batches.person())
        limits = PartLimits(payees_max=2, total_max=LIMITS.total_max)
        found = await approve(sessions, batches, batch, limits=limits)
        assert found.state is BatchState.APPROVED
        parts = await batches.fetch(
            "select p.position, p.total_micro_usdc, p.state, count(i), count(distinct o.id) from payout_part p"
            " join payout_item i on i.part_id = p.id"
            " join outbox o on o.task = 'payouts.send_part' and o.subject = p.id::text"
            " where p.batch_id = %s group by p.id order by 1",
            batch.id,
        )
        assert [row[:3] for row in parts] == [
            (0, 2_000_000, "planned"), (1, 2_000_000, "planned"), (2, 1_000_000, "planned")
        ]  # fmt: skip
        assert [row[3] for row in parts] == [2, 2, 1]

    async def test_of_a_large_batch_waits_for_a_second_person(self, batches, sessions):
        batch = await batches.batch(10_000_000_001)
        first = await batches.person()
        assert (await approve(sessions, batches, batch, by=first)).state is BatchState.REVIEWED
        assert (await approve(sessions, batches, batch, by=first)).state is BatchState.REVIEWED
        assert (await approve(sessions, batches, batch)).state is BatchState.APPROVED

    async def test_by_who_planned_it_is_refused(self, batches, sessions):
        planner = await batches.person()
        batch = await batches.batch(1_000_000, created_by=planner)
        with pytest.raises(Conflict, match="somebody else"):
            await approve(sessions, batches, batch, by=planner)

    async def test_of_another_total_is_refused(self, batches, sessions):
        batch = await batches.batch(1_000_000)
        with pytest.raises(Conflict, match="look at it again"):
            await approve(sessions, batches, batch, total=usdc(5))

    @pytest.mark.parametrize("change", ["withdrawn", "replaced"])
    async def test_a_wallet_that_changed_since_the_plan_is_refused_until_it_is_split_off(
        self, batches, sessions, change
    ):
        batch = await batches.batch(1_000_000, 2_000_000, 3_000_000)
        if change == "withdrawn":
            await batches.fetch(
                "update wallet_proof set withdrawn_at = now() where address ="
                " (select wallet from payout_item where id = %s)",
                batch.items[1],
            )
        else:
            await batches.fetch(
                "update payout_wallet set ended_at = now(), end_reason = 'replaced' where address ="
                " (select wallet from payout_item where id = %s)",
                batch.items[1],
            )
            provider_id = await batches.value(
                "select provider_id from payout_item where id = %s", batch.items[1]
            )
            await batches.choose_wallet(provider_id, address())
        with pytest.raises(Conflict, match=r"1 payees of batch \d+ have changed.*\(items 1\)"):
            await approve(sessions, batches, batch)
        async with session_scope(sessions) as session:
            await split_batch(session, batch.id, [batch.items[1]], reason="its wallet changed", actor_id=None)
        rest = MadeBatch(batch.id, [batch.items[0], batch.items[2]], 4_000_000)
        assert (await approve(sessions, batches, rest)).state is BatchState.APPROVED

    async def test_of_one_that_is_sent_already_is_refused(self, batches, sessions):
        batch = await batches.batch(1_000_000)
        await approve(sessions, batches, batch)
        with pytest.raises(Conflict, match="is approved"):
            await approve(sessions, batches, batch)

    async def test_of_none_is_not_found(self, batches, sessions):
        with pytest.raises(NotFound):
            await approve(sessions, batches, MadeBatch(new_id(), [], 1))

    async def test_while_payouts_are_stopped_is_refused_and_goes_on_after_both_have_resumed(
        self, batches, sessions
    ):
        batch, admin = await batches.batch(1_000_000), await batches.person()
        async with session_scope(sessions) as session:
            await pause(session, source=SwitchSource.ADMIN, reason="a doubt", actor_id=admin)
            await pause(session, source=SwitchSource.RECONCILIATION, reason="they differ")
        with pytest.raises(Conflict, match="already"):
            async with session_scope(sessions) as session:
                await pause(session, source=SwitchSource.ADMIN, reason="again", actor_id=admin)
        async with session_scope(sessions) as session:
            await resume(session, source=SwitchSource.ADMIN, reason="cleared", actor_id=admin)
        with pytest.raises(Conflict, match="they differ"):
            await approve(sessions, batches, batch)
        async with session_scope(sessions) as session:
            await resume(session, source=SwitchSource.RECONCILIATION, reason="found", actor_id=admin)
            assert await standing_stops(session) == []
        assert (await approve(sessions, batches, batch)).state is BatchState.APPROVED

    async def test_two_at_once_are_two(self, batches, sessions):
        """Of the two people needed each counts, though they decide in the same moment."""
        batch = await batches.batch(10_000_000_001)
        found = await asyncio.gather(*(approve(sessions, batches, batch) for _ in range(2)))
        assert sorted(each.state for each in found) == ["approved", "reviewed"]
        assert await batches.value("select count(*) from payout_part where batch_id = %s", batch.id) == 1


async def approve(
    sessions: Sessions,
    batches: PayoutBatches,
    batch: MadeBatch,
    *,
    by: UUID | None = None,
    total: Money | None = None,
    limits: PartLimits = LIMITS,
):
    """By somebody new, of what it pays, unless said otherwise."""
    person = by or await batches.person()
    async with session_scope(sessions) as session:
        return await approve_batch(
            session, batch.id, user_id=person, total=total or usdc(batch.total), limits=limits
        )


async def state_of(batches: PayoutBatches, batch_id: UUID) -> str:
    return await batches.value("select state from payout_batch where id = %s", batch_id)


class TestHold:
    async def test_and_release_go_back_to_where_it_was(self, batches, sessions):
        planned, approved, sending = [await batches.batch(1_000_000) for _ in range(3)]
        await approve(sessions, batches, approved)
        await approve(sessions, batches, sending)
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", sending.id)
        await batches.attempt(part_id)
        await batches.fetch("update payout_part set attempts = 1 where id = %s", part_id)
        for batch, before in ((planned, "planned"), (approved, "approved"), (sending, "sending")):
            async with session_scope(sessions) as session:
                held = await hold_batch(session, batch.id, reason=" a doubt ", actor_id=None)
            assert (held.state, held.hold_reason) == (BatchState.HELD, "a doubt")
            async with session_scope(sessions) as session:
                await release_batch(session, batch.id, actor_id=None)
            assert await state_of(batches, batch.id) == before

    async def test_of_what_is_held_and_release_of_what_is_not_are_refused(self, batches, sessions):
        batch = await batches.batch(1_000_000)
        with pytest.raises(Conflict, match="not held"):
            async with session_scope(sessions) as session:
                await release_batch(session, batch.id, actor_id=None)
        async with session_scope(sessions) as session:
            await hold_batch(session, batch.id, reason="r", actor_id=None)
        with pytest.raises(Conflict, match="cannot be held"):
            async with session_scope(sessions) as session:
                await hold_batch(session, batch.id, reason="r", actor_id=None)


class TestSplit:
    async def test_moves_items_and_both_totals_stay_right(self, batches, sessions):
        batch, actor = await batches.batch(1_000_000, 2_000_000, 4_000_000), await batches.person()
        async with session_scope(sessions) as session:
            new = await split_batch(session, batch.id, batch.items[1:], reason="a new wallet", actor_id=actor)
        rows = await batches.fetch(
            "select b.total_micro_usdc, b.payees, b.state, b.created_by, sum(i.amount_micro_usdc)::bigint, count(*)"
            " from payout_batch b join payout_item i on i.batch_id = b.id where b.id = any (%s) group by b.id order by b.number",
            [batch.id, new.id],
        )
        assert rows == [
            (1_000_000, 1, "planned", None, 1_000_000, 1),
            (6_000_000, 2, "held", actor, 6_000_000, 2),
        ]
        assert (new.split_from, new.hold_reason) == (batch.id, "a new wallet")

    async def test_voids_approvals_of_the_old_total(self, batches, sessions):
        batch = await batches.batch(10_000_000_001, 1_000_000)
        await approve(sessions, batches, batch)
        async with session_scope(sessions) as session:
            await split_batch(session, batch.id, [batch.items[1]], reason="r", actor_id=None)
        assert await state_of(batches, batch.id) == "planned"
        rest = MadeBatch(batch.id, batch.items[:1], 10_000_000_001)
        assert (await approve(sessions, batches, rest)).state is BatchState.REVIEWED

    async def test_who_split_does_not_approve_the_new_one(self, batches, sessions):
        batch, actor = await batches.batch(1_000_000, 2_000_000), await batches.person()
        async with session_scope(sessions) as session:
            new = await split_batch(session, batch.id, [batch.items[0]], reason="r", actor_id=actor)
        async with session_scope(sessions) as session:
            await release_batch(session, new.id, actor_id=actor)
        made = MadeBatch(new.id, batch.items[:1], 1_000_000)
        with pytest.raises(Conflict, match="somebody else"):
            await approve(sessions, batches, made, by=actor)
        assert (await approve(sessions, batches, made)).state is BatchState.APPROVED

    async def test_of_everybody_of_nobody_and_of_strangers_is_refused(self, batches, sessions):
        batch, other = await batches.batch(1_000_000), await batches.batch(1_000_000)
        for items in (batch.items, [], other.items, [new_id()]):
            with pytest.raises(InvalidRequest):
                async with session_scope(sessions) as session:
                    await split_batch(session, batch.id, items, reason="r", actor_id=None)

    async def test_of_what_was_approved_is_refused(self, batches, sessions):
        batch = await batches.batch(1_000_000, 2_000_000)
        await approve(sessions, batches, batch)
        with pytest.raises(Conflict, match="stays as it is"):
            async with session_scope(sessions) as session:
                await split_batch(session, batch.id, [batch.items[0]], reason="r", actor_id=None)


class TestCancel:
    @pytest.fixture
    async def planned(self, pool: Pool, sessions: Sessions):
        """A provider with 18 USDC in a batch that waits for people."""
        earners = Earners(pool, sessions)
        payee = await earners.provider()
        await earners.earn(payee, 20 * USD)
        found = await run_now(sessions, mint=MINT, ends_epoch=True, created_by=None)
        return earners, payee, found.plan

    async def test_gives_the_money_back_and_it_is_planned_again(self, planned, batches, sessions):
        earners, payee, plan = planned
        [batch_id] = plan.batches
        async with session_scope(sessions) as session:
            await cancel_batch(session, batch_id, reason="wrong epoch", actor_id=None)
        assert (
            await batches.value(
                "select count(*) from outbox where task = 'payouts.cancel' and subject = %s", str(batch_id)
            )
            == 1
        )
        for _ in range(2):
            assert (await give_back(sessions, batch_id)).state is BatchState.CANCELLED
        assert await earners.money(payee) == (18 * USD, 2 * USD, 0)
        again: Plan = (await run_now(sessions, mint=MINT, ends_epoch=False, created_by=None)).plan
        assert again.paid == 1
        assert (await earners.items(payee), await earners.items(payee, "returned")) == (
            [18_000_000],
            [18_000_000],
        )

    async def test_of_an_approved_one_that_was_not_signed_works_too(self, planned, batches, sessions):
        earners, payee, plan = planned
        [batch_id] = plan.batches
        await approve(sessions, batches, MadeBatch(batch_id, [], 18_000_000))
        async with session_scope(sessions) as session:
            await cancel_batch(session, batch_id, reason="r", actor_id=None)
        assert (await give_back(sessions, batch_id)).state is BatchState.CANCELLED
        assert (await earners.money(payee)).clearing == 0

    async def test_is_not_released_meanwhile(self, planned, sessions):
        _, _, plan = planned
        [batch_id] = plan.batches
        async with session_scope(sessions) as session:
            await cancel_batch(session, batch_id, reason="r", actor_id=None)
        with pytest.raises(Conflict, match="being cancelled"):
            async with session_scope(sessions) as session:
                await release_batch(session, batch_id, actor_id=None)

    async def test_of_what_was_signed_is_refused(self, batches, sessions):
        batch = await batches.batch(1_000_000)
        await approve(sessions, batches, batch)
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", batch.id)
        await batches.attempt(part_id)
        for state in ("sending", "held"):
            await batches.set_state(batch, state)
            with pytest.raises(Conflict, match="may land"):
                async with session_scope(sessions) as session:
                    await cancel_batch(session, batch.id, reason="r", actor_id=None)


class TestPolicy:
    async def test_a_change_is_the_next_version_and_a_stale_one_is_refused(self, batches, sessions):
        async with session_scope(sessions) as session:
            before = await present_policy(session)
            after = await set_policy(
                session, RulesChange(epoch_hours=24), version=before.version, reason="daily", actor_id=None
            )
            assert (after.version, after.epoch_hours) == (before.version + 1, 24)
            assert after.minimum_micro_usdc == before.minimum_micro_usdc
        with pytest.raises(Conflict, match="by now"):
            async with session_scope(sessions) as session:
                await set_policy(
                    session, RulesChange(epoch_hours=48), version=before.version, reason="r", actor_id=None
                )

    @pytest.mark.parametrize(
        "change",
        [
            RulesChange(),
            RulesChange(minimum=usdc(0)),
            RulesChange(minimum=Money(5)),
            RulesChange(batch_cap=usdc(10**15)),
            RulesChange(epoch_hours=0),
            RulesChange(epoch_hours=745),
            RulesChange(bands=()),
        ],
    )
    async def test_what_cannot_be_is_refused(self, sessions, change):
        async with session_scope(sessions) as session:
            before = await present_policy(session)
            with pytest.raises(InvalidRequest):
                await set_policy(session, change, version=before.version, reason="r", actor_id=None)
