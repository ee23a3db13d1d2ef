"""The engine on the development chain, with real programs, real rows and real money in the ledger."""

import psycopg
import pytest

from raymart_billing.payouts.batches import release_batch
from raymart_billing.payouts.sending import decision
from raymart_billing.payouts.sending.failpoints import Failpoint
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_core.errors import Conflict
from raymart_marketplace.db.session import session_scope
from support.sending import Killed, Sending


class TestPayment:
    async def test_approved_batch_is_paid_and_booked_once(self, sending: Sending):
        batch = await sending.batch(5_000_000, 7_000_000)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [5_000_000, 7_000_000]
        assert await sending.items(batch.batch_id) == ["paid", "paid"]
        assert await sending.attempts(batch.part_id) == [("pay", "landed")]
        for provider_id in batch.providers:
            assert await sending.ledger(provider_id, "payout_clearing") == 0
            assert await sending.ledger(provider_id, "provider_payable") == 0

    async def test_part_keeps_what_shows_where_it_landed(self, sending: Sending):
        batch = await sending.batch(5_000_000)
        await sending.finish(batch.batch_id)
        signature = await sending.part(batch.part_id, "signature")
        found = await sending.chain.rpc.transaction(signature)
        assert found is not None
        assert await sending.part(batch.part_id, "slot") == found.slot
        assert await sending.part(batch.part_id, "fee_lamports") == found.fee_lamports == 5_000
        marker = str(sending.chain.marker(batch.part_id, 0).address)
        assert await sending.part(batch.part_id, "marker") == marker

    async def test_states_go_from_planned_to_submitted_to_finalized(self, sending: Sending):
        batch = await sending.batch(5_000_000)
        seen = [await sending.part(batch.part_id)]
        await sending.round(batch.part_id)
        seen.append(await sending.part(batch.part_id))
        assert await sending.batch_state(batch.batch_id) == "sending"
        sending.market.chain.advance(2)
        await sending.round(batch.part_id)
        assert await sending.items(batch.batch_id) == ["planned"]
        sending.market.chain.finalize()
        await sending.round(batch.part_id)
        seen.append(await sending.part(batch.part_id))
        assert seen == ["planned", "submitted", "finalized"]
        assert await sending.batch_state(batch.batch_id) == "finalized"

    async def test_version_0_pays_too(self, pool, sessions):
        sending = Sending(pool, sessions, version=0)
        batch = await sending.batch(*[1_000_000] * 14)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [1_000_000] * 14

    async def test_batch_that_is_not_approved_is_not_touched(self, sending: Sending):
        batch = await sending.batch(5_000_000, is_approved=False)
        assert (await sending.round(batch.part_id)).parts == 0


class TestKilled:
    @pytest.mark.parametrize(
        "place",
        [
            pytest.param(Failpoint.AFTER_CLAIM, marks=pytest.mark.slow),
            pytest.param(Failpoint.BEFORE_ATTEMPT_COMMIT, marks=pytest.mark.slow),
            Failpoint.AFTER_ATTEMPT_COMMIT,
            pytest.param(Failpoint.AFTER_BROADCAST, marks=pytest.mark.slow),
            pytest.param(Failpoint.BEFORE_SETTLE, marks=pytest.mark.slow),
            Failpoint.BEFORE_SETTLE_COMMIT,
            pytest.param(Failpoint.AFTER_SETTLE, marks=pytest.mark.slow),
        ],
    )
    async def test_next_worker_goes_on_and_pays_once(self, sending: Sending, place: Failpoint):
        batch = await sending.batch(3_000_000, 4_000_000)
        sending.kill.place = place
        died = 0
        for _ in range(8):
            try:
                await sending.round(batch.part_id)
            except Killed:
                died += 1
                sending.sender = sending.another()
                await sending.expire_lease(batch.part_id)
            sending.market.chain.finalize()
        assert died == 1
        assert sending.balances(batch) == [3_000_000, 4_000_000]
        assert await sending.items(batch.batch_id) == ["paid", "paid"]
        assert len(await sending.attempts(batch.part_id)) == 1

    async def test_attempt_is_committed_before_it_is_broadcast(self, sending: Sending):
        batch = await sending.batch(3_000_000)
        sending.kill.place = Failpoint.AFTER_ATTEMPT_COMMIT
        with pytest.raises(Killed):
            await sending.round(batch.part_id)
        assert await sending.part(batch.part_id) == "signed"
        assert await sending.attempts(batch.part_id) == [("pay", "live")]
        sending.market.chain.finalize()
        assert sending.balances(batch) == [0]


class TestEndpointsThatDropLieOrFail:
    async def test_dropped_transaction_is_sent_again_as_the_same_bytes(self, sending: Sending):
        batch = await sending.batch(3_000_000)
        sending.market.chain.faults.drop = sending.second.faults.drop = 1
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]
        assert await sending.attempts(batch.part_id) == [("pay", "landed")]

    async def test_refusal_after_landing_is_no_evidence(self, sending: Sending):
        batch = await sending.batch(3_000_000)
        sending.market.chain.faults.error_after_landing = sending.second.faults.error_after_landing = 5
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]
        assert len(await sending.attempts(batch.part_id)) == 1

    async def test_hidden_status_makes_more_attempts_and_one_payment(self, sending: Sending):
        """Both endpoints hide that it has landed, past its expiry: what would pay twice without the marker."""
        sending.market.chain.faults.is_history_hidden = sending.second.faults.is_history_hidden = True
        batch = await sending.batch(3_000_000)
        await sending.round(batch.part_id)
        sending.market.chain.advance(2)
        sending.market.chain.advance(200)
        await sending.round(batch.part_id)
        await sending.round(batch.part_id)
        assert await sending.part(batch.part_id) == "held"
        assert await sending.part(batch.part_id, "state_reason") == decision.UNREADABLE
        assert sending.balances(batch) == [3_000_000]
        sending.market.chain.faults.is_history_hidden = sending.second.faults.is_history_hidden = False
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]
        assert await sending.items(batch.batch_id) == ["paid"]

    async def test_fee_is_doubled_by_a_sibling_long_before_expiry(self, sending: Sending):
        batch = await sending.batch(3_000_000)
        sending.market.chain.faults.drop = sending.second.faults.drop = 2
        await sending.round(batch.part_id)
        sending.market.chain.advance(80)
        await sending.round(batch.part_id)
        fees = await sending.rows.fetch(
            "select priority_fee_lamports, state from payout_attempt where part_id = %s order by number",
            batch.part_id,
        )
        assert [state for _, state in fees] == ["live", "live"]
        assert fees[1][0] > fees[0][0]
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]
        assert sorted(state for _, state in await sending.attempts(batch.part_id)) == ["expired", "landed"]

    async def test_false_finalized_of_one_endpoint_settles_nothing(self, sending: Sending):
        batch = await sending.batch(3_000_000)
        sending.second.faults.false_finalized = 1
        sending.market.chain.faults.drop = 1
        await sending.round(batch.part_id)
        sending.market.chain.finalize()
        await sending.round(batch.part_id)
        assert await sending.items(batch.batch_id) == ["planned"]
        assert await sending.part(batch.part_id) == "submitted"
        assert await sending.ledger(batch.providers[0], "payout_clearing") == 3_000_000
        assert sending.balances(batch) == [0]

    async def test_unavailable_endpoint_leaves_everything_where_it_was(self, sending: Sending):
        batch = await sending.batch(3_000_000)
        await sending.round(batch.part_id)
        sending.market.chain.finalize()
        sending.second.faults.unavailable = 1_000
        before = await sending.parts(batch.batch_id)
        await sending.round(batch.part_id)
        assert await sending.parts(batch.batch_id) == before
        sending.second.faults.unavailable = 0
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]

    async def test_forked_away_payment_is_paid_again_and_once(self, sending: Sending):
        batch = await sending.batch(3_000_000)
        await sending.round(batch.part_id)
        sending.market.chain.advance(5)
        await sending.round(batch.part_id)
        sending.market.chain.rollback(5)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]

    async def test_part_is_held_after_so_many_attempts_and_goes_on_when_released(self, pool, sessions):
        sending = Sending(pool, sessions, rules=SendingRules(pause_s=0.0, attempts_max=2))
        batch = await sending.batch(3_000_000)
        sending.market.chain.faults.drop = sending.second.faults.drop = 1_000
        for _ in range(3):
            await sending.round(batch.part_id)
            sending.market.chain.advance(200)
        assert await sending.part(batch.part_id) == "held"
        assert len(await sending.attempts(batch.part_id)) == 2
        sending.market.chain.faults.drop = sending.second.faults.drop = 0
        await sending.round(batch.part_id)
        assert len(await sending.attempts(batch.part_id)) == 2
        async with session_scope(sessions) as session:
            await release_batch(session, batch.batch_id, actor_id=None)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]
        with pytest.raises(Conflict, match="not held"):
            async with session_scope(sessions) as session:
                await release_batch(session, batch.batch_id, actor_id=None)


class TestLostRows:
    async def test_payment_is_found_by_its_marker_when_every_attempt_is_lost(
        self, sending: Sending, owner_url: str
    ):
        batch = await sending.batch(3_000_000, 4_000_000)
        await sending.round(batch.part_id)
        sending.market.chain.finalize()
        await sending.forget_attempts(owner_url, batch.part_id)
        await sending.finish(batch.batch_id)
        assert await sending.attempts(batch.part_id) == []
        assert sending.balances(batch) == [3_000_000, 4_000_000]
        assert await sending.items(batch.batch_id) == ["paid", "paid"]
        assert await sending.part(batch.part_id, "signature") is not None

    async def test_attempt_in_flight_and_lost_pays_once(self, sending: Sending, owner_url: str):
        batch = await sending.batch(3_000_000)
        await sending.round(batch.part_id)
        await sending.forget_attempts(owner_url, batch.part_id)
        await sending.round(batch.part_id)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]

    async def test_two_databases_that_know_nothing_of_each_other_pay_once(
        self, sending: Sending, owner_url: str
    ):
        """Split brain: what one has signed the other does not know, and both send."""
        batch = await sending.batch(3_000_000)
        for _ in range(3):
            await sending.round(batch.part_id)
            await sending.forget_attempts(owner_url, batch.part_id)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [3_000_000]
        assert await sending.items(batch.batch_id) == ["paid"]


class TestDeathAfterTheLastPart:
    async def test_the_next_round_ends_a_batch_whose_parts_have_all_ended(
        self, sending: Sending, owner_url: str
    ):
        """A SIGKILL between the last part's settlement and the end of its round leaves nothing to claim."""
        payees = await sending.batch(5_000_000)
        await sending.finish(payees.batch_id)
        with psycopg.connect(owner_url, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(
                "update payout_batch set state = 'sending', finished_at = null where id = %s",
                (payees.batch_id,),
            )
        assert (await sending.round(payees.part_id)).parts == 0
        assert await sending.batch_state(payees.batch_id) == "finalized"
