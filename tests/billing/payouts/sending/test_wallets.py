"""A wallet that its provider has given up is not paid, though the batch was approved with it."""

from uuid import UUID

import pytest
from solders.keypair import Keypair

from raymart_core.ids import new_id
from raymart_marketplace.accounts.models import Role, User
from raymart_marketplace.accounts.service import add_member
from raymart_marketplace.accounts.wallet_proofs import withdraw_proof
from raymart_marketplace.db.session import Sessions, session_scope
from support.payout_wallets import Payee, choose, passed
from support.sending import Sending

AMOUNTS = (1_000_000, 2_000_000)


async def payee_of(sending: Sending, provider_id: UUID, wallet: Keypair) -> Payee:
    """The provider with an owner, and `wallet` as its checked first choice."""
    organization_id = await sending.rows.value(
        "select organization_id from provider where id = %s", provider_id
    )
    async with session_scope(sending.sessions) as session:
        owner = User(id=new_id(), email=f"{new_id().hex}@example.com", name="Owner", password_hash="x")
        session.add(owner)
        await session.flush()
        await add_member(session, organization_id=organization_id, user_id=owner.id, role=Role.OWNER)
        payee = Payee(
            provider_id=provider_id,
            organization_id=organization_id,
            owner_id=owner.id,
            email=owner.email,
            wallet=wallet,
        )
        await passed(session, (await choose(session, payee, wallet)).id)
    return payee


async def give_up(sessions: Sessions, payee: Payee, how: str) -> None:
    async with session_scope(sessions) as session:
        if how == "withdrawn":
            await withdraw_proof(session, organization_id=payee.organization_id, address=payee.address)
        else:
            await passed(session, (await choose(session, payee, Keypair())).id)


class TestWalletOfAnApprovedBatch:
    async def test_that_still_stands_is_paid(self, sending: Sending):
        batch = await sending.batch(*AMOUNTS)
        for provider_id, wallet in zip(batch.providers, batch.wallets, strict=True):
            await payee_of(sending, provider_id, wallet)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == list(AMOUNTS)

    @pytest.mark.parametrize("how", ["changed", "withdrawn"])
    async def test_that_was_given_up_is_not_paid_and_the_money_goes_back(self, sending: Sending, how: str):
        batch = await sending.batch(*AMOUNTS)
        payee = await payee_of(sending, batch.providers[1], batch.wallets[1])
        await give_up(sending.sessions, payee, how)
        await sending.finish(batch.batch_id)
        assert sending.balances(batch) == [1_000_000, 0]
        assert await sending.items(batch.batch_id) == ["paid", "returned"]
        assert await sending.ledger(batch.providers[1], "provider_payable") == 2_000_000
        reason = await sending.rows.value("select reason from payout_item where id = %s", batch.items[1])
        assert reason.startswith("wallet_changed")
