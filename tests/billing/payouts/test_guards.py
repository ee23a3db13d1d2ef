"""Promise 19: what the database itself refuses of payouts, to the role that the processes have."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from raymart_core.ids import new_id
from support.books import fetch
from support.payout_batches import MINT, PayoutBatches, address

FOUR_EYES = 10_000_000_000
BATCH_CAP = 50_000_000_000


@asynccontextmanager
async def refused(constraint: str) -> AsyncIterator[None]:
    with pytest.raises(psycopg.Error) as refusal:
        yield
    assert refusal.value.diag.constraint_name == constraint, refusal.value


@pytest.fixture
async def paused(batches: PayoutBatches):
    """Stops payouts when called; they are resumed in the end, whatever became of the test."""
    switch_id = new_id()

    async def pause() -> None:
        await batches.fetch(
            "insert into payout_switch (id, source, reason) values (%s, 'reconciliation', 'they differ')",
            switch_id,
        )

    yield pause
    await batches.fetch(
        "update payout_switch set resumed_at = now(), resumed_reason = 'r' where id = %s", switch_id
    )


class TestApproval:
    async def test_of_one_who_did_not_plan_it_is_enough_for_a_small_batch(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000, 2_000_000, created_by=await batches.person())
        await batches.approve(batch)
        found = await batches.fetch("select state, approved_at from payout_batch where id = %s", batch.id)
        assert found[0][0] == "approved"
        assert found[0][1] is not None

    async def test_of_who_planned_it_is_refused(self, batches: PayoutBatches):
        planner = await batches.person()
        batch = await batches.batch(1_000_000, created_by=planner)
        async with refused("ck_payout_approval_by_another"):
            await batches.approval(batch, planner)

    async def test_handed_on_to_who_planned_it_is_refused(self, batches: PayoutBatches):
        planner, other = await batches.person(), await batches.person()
        batch = await batches.batch(1_000_000, created_by=planner)
        await batches.approval(batch, other)
        async with refused("ck_payout_approval_immutable"):
            await batches.fetch(
                "update payout_approval set user_id = %s where batch_id = %s", planner, batch.id
            )

    async def test_without_any_the_batch_is_not_approved(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        async with refused("ck_payout_batch_is_approved"):
            await batches.set_state(batch, "approved")

    async def test_no_state_that_follows_is_reached_without_it(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        for state in ("sending", "finalized"):
            async with refused("ck_payout_batch_next_state"):
                await batches.set_state(batch, state)
        await batches.set_state(batch, "held")
        for state in ("approved", "sending"):
            async with refused("ck_payout_batch_is_approved"):
                await batches.set_state(batch, state)

    async def test_a_batch_is_never_born_approved(self, batches: PayoutBatches):
        async with refused("ck_payout_batch_begins_planned"):
            await batches.fetch(
                "insert into payout_batch (id, kind, mint, state, total_micro_usdc, payees, approved_at)"
                " values (%s, 'deposit_refund', %s, 'approved', 1, 1, now())",
                new_id(),
                MINT,
            )

    async def test_above_the_threshold_two_people_are_needed(self, batches: PayoutBatches):
        batch = await batches.batch(FOUR_EYES, 1)
        await batches.approval(batch, await batches.person())
        async with refused("ck_payout_batch_is_approved"):
            await batches.set_state(batch, "approved")
        await batches.approval(batch, await batches.person())
        await batches.set_state(batch, "approved")

    async def test_at_the_threshold_one_is_enough(self, batches: PayoutBatches):
        batch = await batches.batch(FOUR_EYES)
        await batches.approve(batch)

    async def test_of_another_total_is_refused(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        async with refused("ck_payout_approval_of_present_total"):
            await batches.approval(batch, await batches.person(), total=999_999)

    async def test_does_not_count_after_the_total_has_changed(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000, 2_000_000)
        await batches.approval(batch, await batches.person())
        async with refused("ck_payout_batch_total_is_its_items"):
            await batches.fetch(
                "update payout_batch set total_micro_usdc = 5, state = 'approved' where id = %s", batch.id
            )
        rest = await batches.batch(7)
        await batches.fetch(
            "update payout_item set batch_id = %s, position = 1 where id = %s", rest.id, batch.items[1]
        )
        await batches.fetch(
            "update payout_batch set total_micro_usdc = 1000000, payees = 1 where id = %s", batch.id
        )
        async with refused("ck_payout_batch_is_approved"):
            await batches.set_state(batch, "approved")

    async def test_comes_too_late_for_a_batch_that_is_approved(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        await batches.approve(batch)
        async with refused("ck_payout_approval_of_open_batch"):
            await batches.approval(batch, await batches.person())

    async def test_its_time_is_the_databases(self, batches: PayoutBatches):
        """An earlier time would take the batch out of the day's cap."""
        batch = await batches.batch(1_000_000)
        await batches.approval(batch, await batches.person())
        await batches.fetch(
            "update payout_batch set state = 'approved', approved_at = now() - interval '2 days' where id = %s",
            batch.id,
        )
        await batches.fetch("update payout_batch set approved_at = '2020-01-01' where id = %s", batch.id)
        age = await batches.value("select now() - approved_at from payout_batch where id = %s", batch.id)
        assert age.total_seconds() < 3_600


class TestCaps:
    async def test_a_batch_over_the_cap_is_refused(self, batches: PayoutBatches):
        batch = await batches.batch(BATCH_CAP, 1)
        for _ in range(2):
            await batches.approval(batch, await batches.person())
        async with refused("ck_payout_batch_cap"):
            await batches.set_state(batch, "approved")

    async def test_what_the_last_24_hours_leave_no_room_for_is_refused(self, batches: PayoutBatches):
        spent = await batches.value(
            "select coalesce(sum(total_micro_usdc), 0)::bigint from payout_batch"
            " where approved_at > now() - interval '24 hours' and state <> 'cancelled'"
        )
        first, second = [await batches.batch(3_000_000) for _ in range(2)]
        for batch in (first, second):
            await batches.approval(batch, await batches.person())
        async with batches.pool.connection() as connection:
            approve = "update payout_batch set state = 'approved' where id = %s"
            # Rolled back, so that the policy is not everybody's.
            await fetch(connection, "begin")
            await fetch(connection, POLICY, 1, spent + 5_999_999)
            await fetch(connection, approve, first.id)
            async with refused("ck_payout_batch_day_cap"):
                await fetch(connection, approve, second.id)
            await fetch(connection, "rollback")

    async def test_two_approvals_at_once_are_made_one_after_the_other(self, batches: PayoutBatches):
        """Else neither would see the other's total."""
        both = [await batches.batch(3_000_000) for _ in range(2)]
        for batch in both:
            await batches.approval(batch, await batches.person())
        async with batches.pool.connection() as first:
            await fetch(first, "begin")
            await fetch(first, "update payout_batch set state = 'approved' where id = %s", both[0].id)
            waiting = asyncio.create_task(batches.set_state(both[1], "approved"))
            await until_waiting(batches, "update payout_batch")
            assert not waiting.done()
            await fetch(first, "commit")
            await waiting

    async def test_a_policy_is_not_changed_and_the_next_follows(self, batches: PayoutBatches):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await batches.fetch("update payout_policy set batch_cap_micro_usdc = 1")
        async with refused("ck_payout_policy_is_next"):
            await batches.fetch(POLICY, 7, BATCH_CAP)


POLICY = (
    "insert into payout_policy (id, version, minimum_micro_usdc, batch_cap_micro_usdc, day_cap_micro_usdc,"
    " four_eyes_above_micro_usdc, epoch_hours, holdback_bands, reason)"
    " select gen_random_uuid(), max(version) + %s, 1, 4000000, %s, 10000000000, 168, '[{}]', 'r' from payout_policy"
)


async def until_waiting(batches: PayoutBatches, statement: str) -> None:
    """Until a statement that begins so waits for a lock."""
    async with asyncio.timeout(30):
        while not await batches.value(
            "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like %s)",
            f"{statement}%",
        ):
            await asyncio.sleep(0.01)


class TestPaused:
    async def test_nothing_is_approved(self, batches: PayoutBatches, paused):
        batch = await batches.batch(1_000_000)
        await batches.approval(batch, await batches.person())
        await paused()
        async with refused("ck_payout_not_paused"):
            await batches.set_state(batch, "approved")

    async def test_nothing_is_signed(self, batches: PayoutBatches, paused):
        batch = await batches.batch(1_000_000)
        await batches.approve(batch)
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", batch.id)
        await paused()
        async with refused("ck_payout_not_paused"):
            await batches.attempt(part_id)
        async with refused("ck_payout_not_paused"):
            await batches.fetch("update payout_part set state = 'signed' where id = %s", part_id)

    async def test_who_stops_waits_for_a_signature_under_way(self, batches: PayoutBatches, paused):
        """So that nothing is signed by a transaction that commits after the stop."""
        batch = await batches.batch(1_000_000)
        await batches.approve(batch)
        async with batches.pool.connection() as signing:
            await fetch(signing, "begin")
            await fetch(signing, "update payout_part set state = 'signed' where batch_id = %s", batch.id)
            stopping = asyncio.create_task(paused())
            await until_waiting(batches, "insert into payout_switch")
            assert not stopping.done()
            await fetch(signing, "commit")
            await stopping

    async def test_what_stopped_them_is_not_rewritten_and_one_stands_of_a_source(
        self, batches: PayoutBatches, paused
    ):
        await paused()
        async with refused("ck_payout_switch_immutable"):
            await batches.fetch("update payout_switch set reason = 'x' where resumed_at is null")
        async with refused("uq_payout_switch_standing"):
            await batches.fetch(
                "insert into payout_switch (id, source, reason) values (%s, 'reconciliation', 'r')", new_id()
            )


class TestApprovedBatch:
    @pytest.fixture
    async def batch(self, batches: PayoutBatches):
        made = await batches.batch(1_000_000, 2_000_000)
        await batches.approve(made)
        return made

    @pytest.mark.parametrize(
        "change",
        [
            "amount_micro_usdc = amount_micro_usdc + 1",
            "wallet = token_account",
            "token_account = wallet",
            "position = position + 10",
            "epoch_id = gen_random_uuid()",
            "provider_id = gen_random_uuid()",
        ],
    )
    async def test_its_items_never_change(self, batches: PayoutBatches, batch, change: str):
        async with refused("ck_payout_item_immutable"):
            await batches.fetch(f"update payout_item set {change} where id = %s", batch.items[0])

    async def test_no_item_leaves_it_or_comes_to_it(self, batches: PayoutBatches, batch):
        other = await batches.batch(5)
        async with refused("ck_payout_item_immutable"):
            await batches.fetch(
                "update payout_item set batch_id = %s, position = 9 where id = %s", other.id, batch.items[0]
            )
        async with refused("ck_payout_item_immutable"):
            await batches.fetch(
                "update payout_item set batch_id = %s, position = 9 where id = %s", batch.id, other.items[0]
            )
        async with refused("ck_payout_item_before_approval"):
            await batches.fetch(
                "insert into payout_item (id, batch_id, position, provider_id, epoch_id, wallet, token_account,"
                " amount_micro_usdc) select gen_random_uuid(), %s, 9, provider_id, epoch_id, wallet, token_account, 1"
                " from payout_item where id = %s",
                batch.id,
                other.items[0],
            )

    async def test_its_total_never_changes(self, batches: PayoutBatches, batch):
        for change in (
            "total_micro_usdc = 1",
            "payees = 1",
            "mint = repeat('1', 32)",
            "created_by = null, number = default",
        ):
            async with refused("ck_payout_batch_immutable"):
                await batches.fetch(f"update payout_batch set {change} where id = %s", batch.id)

    async def test_a_part_pays_its_items_and_never_more(self, batches: PayoutBatches, batch):
        async with refused("ck_payout_part_total_is_its_items"):
            await batches.fetch(
                "insert into payout_part (id, batch_id, position, total_micro_usdc) values (%s, %s, 1, 5)",
                new_id(),
                batch.id,
            )
        async with refused("ck_payout_part_goes_on"):
            await batches.fetch(
                "update payout_part set total_micro_usdc = total_micro_usdc + 1 where batch_id = %s", batch.id
            )

    async def test_an_item_stays_in_its_part_until_that_has_failed(self, batches: PayoutBatches, batch):
        """Else two transactions would pay it."""
        async with refused("ck_payout_item_part_is_kept"):
            await batches.fetch("update payout_item set part_id = null where id = %s", batch.items[0])
        await batches.fetch("update payout_part set state = 'failed' where batch_id = %s", batch.id)
        await batches.fetch("update payout_item set part_id = null where id = %s", batch.items[0])

    async def test_is_not_cancelled_with_its_payees_money(self, batches: PayoutBatches, batch):
        async with refused("ck_payout_batch_cancelled_is_returned"):
            await batches.set_state(batch, "cancelled")

    async def test_is_not_cancelled_once_it_was_signed(self, batches: PayoutBatches, batch):
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", batch.id)
        attempt_id = await batches.attempt(part_id)
        await batches.fetch(
            "update payout_attempt set state = 'expired', resolved_at = now() where id = %s", attempt_id
        )
        await batches.fetch("update payout_item set state = 'returned' where batch_id = %s", batch.id)
        await batches.set_state(batch, "held")
        async with refused("ck_payout_batch_cancelled_unsigned"):
            await batches.set_state(batch, "cancelled")

    async def test_is_final_only_when_everybody_is_paid(self, batches: PayoutBatches, batch):
        await batches.set_state(batch, "sending")
        async with refused("ck_payout_batch_finalized_is_paid"):
            await batches.set_state(batch, "finalized")
        await batches.fetch("update payout_item set state = 'paid' where batch_id = %s", batch.id)
        await batches.set_state(batch, "finalized")
        async with refused("ck_payout_batch_next_state"):
            await batches.set_state(batch, "sending")


class TestSending:
    async def test_a_part_of_a_batch_that_is_not_approved_is_refused(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        async with refused("ck_payout_of_approved_batch"):
            await batches.part(batch)

    async def test_nothing_of_a_held_batch_is_signed(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        await batches.approve(batch)
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", batch.id)
        await batches.set_state(batch, "held")
        async with refused("ck_payout_of_approved_batch"):
            await batches.attempt(part_id)
        async with refused("ck_payout_of_approved_batch"):
            await batches.fetch("update payout_part set state = 'signed' where id = %s", part_id)

    async def test_the_first_signature_makes_it_sending(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        await batches.approve(batch)
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", batch.id)
        await batches.attempt(part_id)
        assert await batches.value("select state from payout_batch where id = %s", batch.id) == "sending"

    async def test_an_item_that_may_still_land_is_not_returned(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        await batches.approve(batch)
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", batch.id)
        attempt_id = await batches.attempt(part_id)
        async with refused("ck_payout_item_returned_is_dead"):
            await batches.fetch("update payout_item set state = 'returned' where batch_id = %s", batch.id)
        await batches.fetch(
            "update payout_attempt set state = 'landed', resolved_at = now() where id = %s", attempt_id
        )
        async with refused("ck_payout_item_returned_is_dead"):
            await batches.fetch("update payout_item set state = 'returned' where batch_id = %s", batch.id)
        await batches.fetch("update payout_item set state = 'paid' where batch_id = %s", batch.id)
        async with refused("ck_payout_item_next_state"):
            await batches.fetch("update payout_item set state = 'returned' where batch_id = %s", batch.id)

    async def test_an_attempt_is_kept_as_it_was_signed(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000)
        await batches.approve(batch)
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", batch.id)
        attempt_id = await batches.attempt(part_id)
        for change in (
            "raw_transaction = 'y'",
            "signature = 'y'",
            "last_valid_block_height = 1",
            "part_id = null",
        ):
            async with refused("ck_payout_attempt_immutable"):
                await batches.fetch(f"update payout_attempt set {change} where id = %s", attempt_id)
        await batches.fetch(
            "update payout_attempt set state = 'expired', resolved_at = now() where id = %s", attempt_id
        )
        async with refused("ck_payout_attempt_next_state"):
            await batches.fetch(
                "update payout_attempt set state = 'live', resolved_at = null where id = %s", attempt_id
            )
        # A node that hid it is found out.
        await batches.fetch("update payout_attempt set state = 'landed' where id = %s", attempt_id)

    async def test_two_who_sign_parts_of_one_batch_do_not_wait_in_a_circle(self, batches: PayoutBatches):
        batch = await batches.batch(1_000_000, 2_000_000)
        await batches.approval(batch, await batches.person())
        await batches.set_state(batch, "approved")
        parts = [new_id(), new_id()]
        async with batches.pool.connection() as connection, connection.transaction():
            for position, part_id in enumerate(parts):
                await fetch(
                    connection,
                    "insert into payout_part (id, batch_id, position, total_micro_usdc) values (%s, %s, %s, %s)",
                    part_id,
                    batch.id,
                    position,
                    (position + 1) * 1_000_000,
                )
                await fetch(
                    connection,
                    "update payout_item set part_id = %s where id = %s",
                    part_id,
                    batch.items[position],
                )
        async with batches.pool.connection() as first, batches.pool.connection() as second:
            sign = "update payout_part set state = 'signed' where id = %s"
            await fetch(first, "begin")
            await fetch(second, "begin")
            await fetch(first, sign, parts[0])
            other = asyncio.create_task(fetch(second, sign, parts[1]))
            await fetch(first, "update payout_item set state = 'paid' where id = %s", batch.items[0])
            await fetch(first, "commit")
            await other
            await fetch(second, "commit")
        assert await batches.value("select state from payout_batch where id = %s", batch.id) == "sending"


class TestKept:
    @pytest.mark.parametrize(
        "table",
        [
            "epoch", "earning", "payout_policy", "payout_switch", "payout_batch", "payout_approval", "payout_part",
            "payout_item", "payout_attempt", "provider_trust",
        ],
    )  # fmt: skip
    async def test_nothing_is_deleted(self, batches: PayoutBatches, table: str):
        for statement in (f"delete from {table}", f"truncate {table} cascade"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await batches.fetch(statement)

    async def test_nor_by_the_owner(self, owner_url: str):
        with psycopg.connect(owner_url) as connection:
            for table in ("payout_batch", "payout_approval", "payout_item", "payout_attempt", "earning"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is refused"):
                    connection.execute(f"delete from {table}")
                connection.rollback()


class TestEarnings:
    async def test_ranges_of_a_provider_join(self, batches: PayoutBatches):
        provider_id = await batches.provider()
        earn = (
            "insert into earning (id, epoch_id, provider_id, after_transfer_id, upto_transfer_id, gross_nano_usd,"
            " clawback_nano_usd, holdback_nano_usd) values (gen_random_uuid(), %s, %s, %s, %s, 5, 0, 0)"
        )
        async with refused("ck_earning_joins_previous"):
            await batches.fetch(earn, await batches.epoch(), provider_id, 3, 10)
        await batches.fetch(earn, await batches.epoch(), provider_id, 0, 10)
        for after in (9, 11):
            async with refused("ck_earning_joins_previous"):
                await batches.fetch(earn, await batches.epoch(), provider_id, after, 20)
        await batches.fetch(earn, await batches.epoch(), provider_id, 10, 20)
        async with refused("ck_earning_immutable"):
            await batches.fetch(
                "update earning set gross_nano_usd = 6 where provider_id = %s and upto_transfer_id = 20",
                provider_id,
            )

    async def test_a_provider_is_paid_once_for_an_epoch(self, batches: PayoutBatches):
        batch, other = await batches.batch(5), await batches.batch(5)
        pay = (
            "insert into payout_item (id, batch_id, position, provider_id, epoch_id, wallet, token_account,"
            " amount_micro_usdc) select gen_random_uuid(), %s, 9, provider_id, epoch_id, %s, %s, 7"
            " from payout_item where id = %s"
        )
        async with refused("uq_payout_item_provider_epoch"):
            await batches.fetch(pay, other.id, address(), address(), batch.items[0])
        await batches.fetch("update payout_item set state = 'returned' where id = %s", batch.items[0])
        await batches.fetch(pay, other.id, address(), address(), batch.items[0])

    async def test_epochs_join_and_are_over(self, batches: PayoutBatches):
        await batches.epoch()
        make = (
            "insert into epoch (id, number, starts_at, ends_at) select gen_random_uuid(), max(number) + %s,"
            " max(ends_at) + %s::interval, clock_timestamp() + %s::interval from epoch"
        )
        for values in ((2, "0", "0"), (1, "1 microsecond", "0")):
            async with refused("ck_epoch_joins_previous"):
                await batches.fetch(make, *values)
        async with refused("ck_epoch_is_over"):
            await batches.fetch(make, 1, "0", "1 minute")
