"""A payee that cannot be paid delays the others and loses nobody any money."""

import pytest

from raymart_billing.payouts.sending.failpoints import Failpoint
from raymart_billing.payouts.sending.settling import successor_of
from support.sending import Killed, Sending

AMOUNTS = (1_000_000, 2_000_000, 3_000_000)


def freeze(sending: Sending, wallet) -> None:
    sending.market.chain.faucet.freeze(sending.market.tokens_of(wallet.pubkey()), mint=sending.market.mint)
    sending.market.chain.finalize()


def thaw(sending: Sending, wallet) -> None:
    sending.market.chain.faucet.thaw(sending.market.tokens_of(wallet.pubkey()), mint=sending.market.mint)
    sending.market.chain.finalize()


async def check_second_was_returned(sending: Sending, batch) -> None:
    assert sending.balances(batch) == [1_000_000, 0, 3_000_000]
    assert await sending.items(batch.batch_id) == ["paid", "returned", "paid"]
    payable = [await sending.ledger(provider_id, "provider_payable") for provider_id in batch.providers]
    clearing = [await sending.ledger(provider_id, "payout_clearing") for provider_id in batch.providers]
    assert (payable, clearing) == ([0, 2_000_000, 0], [0, 0, 0])


class TestFrozenPayee:
    async def test_seen_before_sending_burns_the_marker_and_pays_the_others(self, sending: Sending):
        batch = await sending.batch(*AMOUNTS)
        freeze(sending, batch.wallets[1])
        await sending.finish(batch.batch_id)
        await check_second_was_returned(sending, batch)
        assert await sending.attempts(batch.part_id) == [("burn", "landed")]
        assert await sending.part(batch.part_id) == "failed"
        assert await sending.part(successor_of(batch.part_id)) == "finalized"

    async def test_money_is_not_given_back_before_the_marker_is_burnt(self, sending: Sending):
        batch = await sending.batch(*AMOUNTS)
        freeze(sending, batch.wallets[1])
        await sending.round(batch.part_id)
        await sending.round(batch.part_id)
        assert await sending.items(batch.batch_id) == ["planned", "quarantined", "planned"]
        assert await sending.ledger(batch.providers[1], "payout_clearing") == 2_000_000

    async def test_failed_on_the_chain_is_mapped_to_the_payee(self, sending: Sending):
        """Frozen between the look and the landing: the chain refuses the whole transaction and names the instruction."""
        batch = await sending.batch(*AMOUNTS)
        sending.kill.place = Failpoint.AFTER_ATTEMPT_COMMIT
        with pytest.raises(Killed):
            await sending.round(batch.part_id)
        await sending.expire_lease(batch.part_id)
        freeze(sending, batch.wallets[1])
        await sending.finish(batch.batch_id)
        await check_second_was_returned(sending, batch)
        assert await sending.attempts(batch.part_id) == [("pay", "failed"), ("burn", "landed")]
        reason = await sending.rows.value("select reason from payout_item where id = %s", batch.items[1])
        assert reason.startswith("account_frozen")

    async def test_payment_that_is_faster_than_the_burning_is_settled_as_paid(self, sending: Sending):
        batch = await sending.batch(*AMOUNTS)
        sending.market.chain.faults.drop = sending.second.faults.drop = 2
        await sending.round(batch.part_id)
        freeze(sending, batch.wallets[1])
        sending.market.chain.advance(50)
        await sending.round(batch.part_id)
        assert await sending.items(batch.batch_id) == ["planned", "quarantined", "planned"]
        thaw(sending, batch.wallets[1])
        [[raw]] = await sending.rows.fetch(
            "select raw_transaction from payout_attempt where part_id = %s", batch.part_id
        )
        await sending.market.send(bytes(raw))
        sending.market.chain.advance(2)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == list(AMOUNTS)
        assert await sending.items(batch.batch_id) == ["paid"] * 3
        assert await sending.ledger(batch.providers[1], "payout_clearing") == 0

    async def test_only_payee_gets_its_money_back_and_the_batch_ends(self, sending: Sending):
        batch = await sending.batch(5_000_000)
        freeze(sending, batch.wallets[0])
        await sending.finish(batch.batch_id)
        assert await sending.items(batch.batch_id) == ["returned"]
        assert await sending.ledger(batch.providers[0], "provider_payable") == 5_000_000
        assert len(await sending.parts(batch.batch_id)) == 1

    async def test_database_from_before_the_quarantine_pays_nobody_twice(
        self, sending: Sending, owner_url: str
    ):
        """All of it is forgotten: the quarantine, the burnt marker, the second part and its payment."""
        batch = await sending.batch(*AMOUNTS)
        freeze(sending, batch.wallets[1])
        for _ in range(4):
            await sending.round(batch.part_id)
            sending.market.chain.finalize()
        await sending.round(successor_of(batch.part_id))
        sending.market.chain.finalize()
        assert sending.balances(batch) == [1_000_000, 0, 3_000_000]
        await sending.restore_as_approved(owner_url, batch)
        await sending.finish(batch.batch_id, rounds=20)
        await check_second_was_returned(sending, batch)


class TestAccounts:
    async def test_account_of_another_owner_is_quarantined(self, sending: Sending):
        """The associated account was handed over: the money would be somebody else's."""
        batch = await sending.batch(*AMOUNTS)
        await sending.hand_over(batch.wallets[1])
        await sending.finish(batch.batch_id)
        await check_second_was_returned(sending, batch)

    async def test_missing_accounts_are_opened_first_ten_a_transaction(self, sending: Sending):
        wallets = sending.market.wallets(12, lamports=0, has_token_account=False)
        batch = await sending.batch(*[1_000_000] * 12, wallets=wallets)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [1_000_000] * 12
        assert await sending.attempts(batch.part_id) == [
            ("open", "landed"),
            ("open", "landed"),
            ("pay", "landed"),
        ]

    async def test_account_is_paid_for_once_and_its_owner_has_to_open_the_next(self, sending: Sending):
        wallets = sending.market.wallets(2, has_token_account=False)
        batch = await sending.batch(1_000_000, 2_000_000, wallets=wallets)
        await sending.round(batch.part_id)
        sending.market.chain.finalize()
        await sending.close(wallets[1])
        sending.market.chain.finalize()
        await sending.finish(batch.batch_id)
        assert sending.market.balance(wallets[0].pubkey()) == 1_000_000
        assert await sending.items(batch.batch_id) == ["paid", "returned"]
        reason = await sending.rows.value("select reason from payout_item where id = %s", batch.items[1])
        assert reason == "account_closed_again"

    async def test_opening_survives_a_kill_and_is_not_paid_twice(self, sending: Sending):
        wallets = sending.market.wallets(1, lamports=0, has_token_account=False)
        batch = await sending.batch(1_000_000, wallets=wallets)
        sending.kill.place = Failpoint.AFTER_BROADCAST
        with pytest.raises(Killed):
            await sending.round(batch.part_id)
        await sending.expire_lease(batch.part_id)
        await sending.finish(batch.batch_id)
        assert await sending.attempts(batch.part_id) == [("open", "landed"), ("pay", "landed")]
        assert sending.balances(batch) == [1_000_000]
