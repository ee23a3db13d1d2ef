"""Payout wallets on a chain with real programs, and what their owners are told."""

from collections.abc import Iterator

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import TOKEN_PROGRAM_ID
from sqlalchemy import select

from raymart_billing.mail import SmtpChannel
from raymart_billing.payout_wallets import (
    CheckState,
    NotPayable,
    NoWallet,
    PayableWallet,
    PayoutWallet,
    cancel_payout_wallet,
    payable_wallet,
    tell_of_withdrawal,
)
from raymart_billing.payout_wallets.checks import check_wallets, due_checks, find_objections
from raymart_billing.payout_wallets.notices import tell
from raymart_billing.payout_wallets.requests import TELL_TASK, Event
from raymart_billing.payout_wallets.tasks import PERIODICS, TASKS
from raymart_billing.solana import RpcError, SolanaRpc
from raymart_billing.work.models import OutboxItem
from raymart_core.ids import new_id
from raymart_marketplace.accounts.models import Membership, Role, User
from raymart_marketplace.accounts.wallet_proofs import withdraw_proof
from raymart_marketplace.db.session import Sessions, session_scope
from support.background import running_worker
from support.dev_chain import Market
from support.mail_server import MailServer
from support.payout_wallets import Payee, choose, make_paid_payee, make_payee, pass_time


@pytest.fixture(scope="module")
def market() -> Market:
    return Market.funded()


@pytest.fixture
def rpc(market: Market) -> SolanaRpc:
    return SolanaRpc([market.chain.handle])


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


async def chosen(sessions: Sessions, wallet: Keypair) -> tuple[Payee, PayoutWallet]:
    async with session_scope(sessions) as session:
        payee = await make_payee(session)
        return payee, await choose(session, payee, wallet)


async def state_of(sessions: Sessions, wallet: PayoutWallet) -> tuple[CheckState, str | None]:
    async with session_scope(sessions) as session:
        found = await session.get_one(PayoutWallet, wallet.id)
        return found.check_state, found.check_finding


async def asked_to_tell(sessions: Sessions, wallet: PayoutWallet) -> set[str]:
    async with session_scope(sessions) as session:
        rows = await session.scalars(
            select(OutboxItem.subject).where(
                OutboxItem.task == TELL_TASK, OutboxItem.subject.startswith(str(wallet.id))
            )
        )
        return {subject.partition(":")[2] for subject in rows}


def handed_over(market: Market, wallet: Keypair) -> bytes:
    """A transaction by which the wallet gives its USDC account to somebody else."""
    return market.v0(
        wallet,
        token.set_authority(
            models.SetAuthorityParams(
                program_id=TOKEN_PROGRAM_ID,
                account=market.tokens_of(wallet.pubkey()),
                authority=models.AuthorityType.ACCOUNT_OWNER,
                current_authority=wallet.pubkey(),
                new_authority=Keypair().pubkey(),
                signers=[],
            )
        ),
    )


class TestOnTheChain:
    async def test_wallet_with_and_without_an_account_passes(
        self, sessions: Sessions, market: Market, rpc: SolanaRpc
    ):
        """A wallet that has never been used is one: nothing lies at its address."""
        for wallet in (market.wallet(), market.wallet(has_token_account=False), Keypair()):
            payee, choice = await chosen(sessions, wallet)
            assert await check_wallets(sessions, rpc, market.mint, [choice.id]) == 0
            assert await state_of(sessions, choice) == (CheckState.PASSED, None)
            async with session_scope(sessions) as session:
                assert isinstance(await payable_wallet(session, payee.provider_id), PayableWallet)

    async def test_token_account_programs_address_and_program_are_objected_to(
        self, market: Market, rpc: SolanaRpc
    ):
        wallet = market.wallet()
        wrong = {
            str(market.tokens_of(wallet.pubkey())): "token account",
            str(market.mint): "token account or a mint",
            str(TOKEN_PROGRAM_ID): "program",
            str(Pubkey.find_program_address([b"x"], TOKEN_PROGRAM_ID)[0]): "off the curve",
        }
        found = await find_objections(rpc, market.mint, [*wrong, str(wallet.pubkey())])
        assert set(found) == set(wrong)
        for address, words in wrong.items():
            assert words in found[address]

    async def test_account_that_was_handed_over_fails_and_is_told_once(
        self, sessions: Sessions, market: Market, rpc: SolanaRpc
    ):
        wallet = market.wallet()
        payee, choice = await chosen(sessions, wallet)
        await check_wallets(sessions, rpc, market.mint, [choice.id])
        await market.send(handed_over(market, wallet))
        market.chain.finalize()
        for _ in range(2):
            assert await check_wallets(sessions, rpc, market.mint, [choice.id]) == 1
        state, finding = await state_of(sessions, choice)
        assert state is CheckState.FAILED
        assert finding is not None
        assert await asked_to_tell(sessions, choice) == {"chosen", "check_failed"}
        async with session_scope(sessions) as session:
            found = await payable_wallet(session, payee.provider_id)
        assert found == NotPayable(reason=NoWallet.CHECKS_FAILED, finding=finding)
        assert "handed over" in found.in_words()

    async def test_one_endpoint_that_objects_is_enough(self, sessions: Sessions, market: Market):
        """The first endpoint is of a chain on which nothing has happened to the wallet."""
        wallet = market.wallet()
        _, choice = await chosen(sessions, wallet)
        behind = market.chain.node()
        behind.faults.slots_behind = 10**6
        await market.send(handed_over(market, wallet))
        market.chain.finalize()
        both = SolanaRpc([behind.handle, market.chain.handle])
        assert await check_wallets(sessions, both, market.mint, [choice.id]) == 1


class TestChainAway:
    async def test_choice_stays_unchecked_and_unpaid_until_it_is_back(
        self, sessions: Sessions, market: Market
    ):
        node = market.chain.node()
        rpc = SolanaRpc([node.handle])
        payee, choice = await chosen(sessions, market.wallet())
        node.faults.unavailable = 100
        with pytest.raises(RpcError):
            await check_wallets(sessions, rpc, market.mint, [choice.id])
        assert await state_of(sessions, choice) == (CheckState.UNCHECKED, None)
        async with session_scope(sessions) as session:
            assert await payable_wallet(session, payee.provider_id) == NotPayable(reason=NoWallet.UNCHECKED)
            assert choice.id in await due_checks(session)
        node.faults.unavailable = 0
        await check_wallets(sessions, rpc, market.mint, [choice.id])
        async with session_scope(sessions) as session:
            assert isinstance(await payable_wallet(session, payee.provider_id), PayableWallet)
            assert choice.id not in await due_checks(session)

    async def test_one_of_two_endpoints_away_leaves_it_unchecked(self, sessions: Sessions, market: Market):
        node = market.chain.node()
        node.faults.unavailable = 100
        _, choice = await chosen(sessions, market.wallet())
        with pytest.raises(RpcError):
            await check_wallets(
                sessions, SolanaRpc([market.chain.handle, node.handle]), market.mint, [choice.id]
            )
        assert await state_of(sessions, choice) == (CheckState.UNCHECKED, None)

    async def test_without_a_chain_the_work_ends_and_nothing_is_checked(
        self, sessions: Sessions, database_url: str
    ):
        _, choice = await chosen(sessions, Keypair())
        async with session_scope(sessions) as session:
            [row] = await session.scalars(
                select(OutboxItem).where(
                    OutboxItem.subject == str(choice.id), OutboxItem.task == TASKS[0].name
                )
            )
        async with running_worker(database_url, tasks=TASKS, periodics=PERIODICS) as worker:
            await worker.drain(row.id)
        assert await state_of(sessions, choice) == (CheckState.UNCHECKED, None)

    async def test_choice_is_looked_at_again_a_day_later(
        self, sessions: Sessions, market: Market, rpc: SolanaRpc, owner_url: str
    ):
        payee, choice = await chosen(sessions, market.wallet())
        await check_wallets(sessions, rpc, market.mint, [choice.id])
        pass_time(owner_url, payee, hours=25, checks=True)
        async with session_scope(sessions) as session:
            assert choice.id in await due_checks(session)


class TestMails:
    async def tell(self, sessions: Sessions, server: MailServer, wallet: PayoutWallet, event: Event) -> str:
        channel = SmtpChannel(
            host="127.0.0.1",
            port=server.port,
            user=None,
            password=None,
            starttls=False,
            sender="r@example.com",
        )
        server.mails.clear()
        assert await tell(sessions, channel, wallet.id, event)
        return server.mails[-1][1].get_content()

    async def test_change_is_told_to_every_owner_with_what_to_do(self, sessions: Sessions, mails: MailServer):
        paid = await make_paid_payee(sessions)
        async with session_scope(sessions) as session:
            other = User(id=new_id(), email=f"{new_id().hex}@example.com", name="O", password_hash="x")
            admin = User(id=new_id(), email=f"{new_id().hex}@example.com", name="A", password_hash="x")
            session.add_all([other, admin])
            await session.flush()
            for user, role in ((other, Role.OWNER), (admin, Role.ADMIN)):
                session.add(Membership(organization_id=paid.organization_id, user_id=user.id, role=role))
            changed = await choose(session, paid, Keypair())
        text = await self.tell(sessions, mails, changed, Event.CHOSEN)
        assert {recipient for recipient, _ in mails.mails} == {paid.email, other.email}
        assert all(words in text for words in (changed.address, paid.address, paid.email))
        assert all(
            words in text for words in ("cancelPayoutWallet", "change your password", "can be taken back")
        )
        assert f"{changed.payable_from:%d %b %Y, %H:%M}" in text

    async def test_first_choice_cancellation_and_withdrawal_have_mails_of_their_own(
        self, sessions: Sessions, mails: MailServer
    ):
        async with session_scope(sessions) as session:
            payee = await make_payee(session)
            first = await choose(session, payee, payee.wallet)
        assert "withdrawWallet" in await self.tell(sessions, mails, first, Event.CHOSEN)
        async with session_scope(sessions) as session:
            changed = await choose(session, payee, Keypair())
            await cancel_payout_wallet(session, provider_id=payee.provider_id, cancelled_by=payee.owner_id)
        assert await asked_to_tell(sessions, changed) == {"chosen", "cancelled"}
        assert f"go to {payee.address} again" in await self.tell(sessions, mails, changed, Event.CANCELLED)
        async with session_scope(sessions) as session:
            proof = await withdraw_proof(
                session, organization_id=payee.organization_id, address=payee.address
            )
            await tell_of_withdrawal(session, proof.id)
        assert await asked_to_tell(sessions, first) == {"chosen", "proof_withdrawn"}
        assert "was withdrawn" in await self.tell(sessions, mails, first, Event.PROOF_WITHDRAWN)
