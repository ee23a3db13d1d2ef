"""Choosing a payout wallet, taking a change back, and what may be paid meanwhile. First half of promise 19."""

import asyncio
from datetime import timedelta

import pytest
from solders.keypair import Keypair
from sqlalchemy import delete, func, select
from sqlalchemy.exc import DBAPIError

from raymart_billing.payout_wallets import (
    EndReason,
    NotPayable,
    NoWallet,
    PayableWallet,
    PayoutWallet,
    WalletRules,
    WalletWarning,
    WarningsNotAcknowledged,
    cancel_payout_wallet,
    choose_payout_wallet,
    payable_wallet,
    payable_wallets,
)
from raymart_billing.payout_wallets.exchanges import _exchanges, exchange_of
from raymart_billing.payout_wallets.requests import CHECK_TASK, TELL_TASK
from raymart_billing.privacy.erasing import erase
from raymart_billing.privacy.models import OrganizationErasure
from raymart_billing.work.models import OutboxItem
from raymart_core.clock import now
from raymart_core.errors import Conflict, DomainError, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.accounts.siws import read_address
from raymart_marketplace.accounts.wallet_proofs import withdraw_proof
from raymart_marketplace.db.session import Sessions, session_scope
from support.payout_wallets import (
    RULES,
    Payee,
    choose,
    make_paid_payee,
    make_payee,
    pass_time,
    passed,
    prove,
)


@pytest.fixture
async def payee(sessions: Sessions) -> Payee:
    """A provider without a wallet."""
    async with session_scope(sessions) as session:
        return await make_payee(session)


@pytest.fixture
async def paid(sessions: Sessions) -> Payee:
    """A provider that may be paid to `paid.wallet`."""
    return await make_paid_payee(sessions)


async def standing(sessions: Sessions, payee: Payee) -> PayableWallet | NotPayable:
    async with session_scope(sessions) as session:
        return await payable_wallet(session, payee.provider_id)


async def change(sessions: Sessions, payee: Payee, wallet: Keypair) -> PayoutWallet:
    async with session_scope(sessions) as session:
        chosen = await choose(session, payee, wallet)
        await passed(session, chosen.id)
        return chosen


async def cancel(sessions: Sessions, payee: Payee) -> PayoutWallet | None:
    async with session_scope(sessions) as session:
        return await cancel_payout_wallet(session, provider_id=payee.provider_id, cancelled_by=payee.owner_id)


class TestFirstChoice:
    async def test_is_payable_once_the_chain_was_asked(self, sessions: Sessions, payee: Payee):
        assert await standing(sessions, payee) == NotPayable(reason=NoWallet.NONE_CHOSEN)
        async with session_scope(sessions) as session:
            chosen = await choose(session, payee, payee.wallet)
        assert chosen.is_first
        assert await standing(sessions, payee) == NotPayable(reason=NoWallet.UNCHECKED)
        async with session_scope(sessions) as session:
            await passed(session, chosen.id)
        found = await standing(sessions, payee)
        assert isinstance(found, PayableWallet)
        assert (found.address, found.wallet_id) == (payee.address, chosen.id)

    async def test_asks_for_a_check_and_a_mail_in_the_same_transaction(
        self, sessions: Sessions, payee: Payee
    ):
        async with session_scope(sessions) as session:
            chosen = await choose(session, payee, payee.wallet)
            asked = await session.scalars(
                select(OutboxItem.task).where(OutboxItem.subject.startswith(str(chosen.id)))
            )
            assert sorted(asked) == [CHECK_TASK, TELL_TASK]

    async def test_repeat_changes_nothing(self, sessions: Sessions, paid: Payee):
        async with session_scope(sessions) as session:
            again = await choose(session, paid, paid.wallet)
            count = await session.scalar(
                select(func.count()).where(PayoutWallet.provider_id == paid.provider_id)
            )
        assert count == 1
        assert again.is_first

    async def test_two_at_once_leave_one(self, sessions: Sessions, payee: Payee):
        wallets = [Keypair(), Keypair()]
        async with session_scope(sessions) as session:
            for wallet in wallets:
                await prove(session, payee, wallet)

        async def one(wallet: Keypair) -> PayoutWallet:
            async with session_scope(sessions) as session:
                return await choose_payout_wallet(
                    session,
                    provider_id=payee.provider_id,
                    address=str(wallet.pubkey()),
                    acknowledged=(),
                    chosen_by=payee.owner_id,
                    rules=RULES,
                )

        made = await asyncio.gather(*(one(wallet) for wallet in wallets))
        assert sorted(each.is_first for each in made) == [False, True]
        found = await standing(sessions, payee)
        assert isinstance(found, NotPayable)
        assert found.reason is NoWallet.COOLING_DOWN


class TestProof:
    async def test_wallet_without_a_proof_is_refused(self, sessions: Sessions, payee: Payee):
        with pytest.raises(Conflict, match="not proven"):
            async with session_scope(sessions) as session:
                await choose_payout_wallet(
                    session,
                    provider_id=payee.provider_id,
                    address=payee.address,
                    acknowledged=(),
                    chosen_by=payee.owner_id,
                    rules=RULES,
                )

    async def test_old_proof_is_refused_and_a_new_one_heals_it(
        self, sessions: Sessions, payee: Payee, owner_url: str
    ):
        async with session_scope(sessions) as session:
            await prove(session, payee, payee.wallet)
        pass_time(owner_url, payee, hours=0.5)
        chosen = {
            "provider_id": payee.provider_id,
            "address": payee.address,
            "acknowledged": (),
            "chosen_by": payee.owner_id,
            "rules": RULES,
        }
        with pytest.raises(Conflict, match="within 10 minutes"):
            async with session_scope(sessions) as session:
                await choose_payout_wallet(session, **chosen)
        async with session_scope(sessions) as session:
            await prove(session, payee, payee.wallet)
            assert await choose_payout_wallet(session, **chosen)

    async def test_proof_of_another_organization_counts_for_nobody_else(
        self, sessions: Sessions, payee: Payee
    ):
        async with session_scope(sessions) as session:
            rival = await make_payee(session)
            await prove(session, rival, payee.wallet)
        with pytest.raises(Conflict, match="not proven"):
            async with session_scope(sessions) as session:
                await choose_payout_wallet(
                    session,
                    provider_id=payee.provider_id,
                    address=payee.address,
                    acknowledged=tuple(WalletWarning),
                    chosen_by=payee.owner_id,
                    rules=RULES,
                )

    async def test_programs_address_and_unknown_provider_are_refused(self, sessions: Sessions, payee: Payee):
        off_curve = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"
        for provider_id, address, error in (
            (payee.provider_id, off_curve, (InvalidRequest, Conflict)),
            (payee.provider_id, "nope", InvalidRequest),
            (new_id(), payee.address, NotFound),
        ):
            with pytest.raises(error):
                async with session_scope(sessions) as session:
                    await choose_payout_wallet(
                        session,
                        provider_id=provider_id,
                        address=address,
                        acknowledged=(),
                        chosen_by=payee.owner_id,
                        rules=RULES,
                    )

    async def test_withdrawn_proof_ends_the_choice(self, sessions: Sessions, paid: Payee):
        async with session_scope(sessions) as session:
            await withdraw_proof(session, organization_id=paid.organization_id, address=paid.address)
        assert await standing(sessions, paid) == NotPayable(reason=NoWallet.PROOF_WITHDRAWN)
        # Proving it anew makes no first choice of it again.
        chosen = await change(sessions, paid, paid.wallet)
        assert not chosen.is_first
        found = await standing(sessions, paid)
        assert isinstance(found, NotPayable)
        assert found.reason is NoWallet.COOLING_DOWN


class TestCoolDown:
    async def test_change_pays_neither_wallet_for_72_hours(
        self, sessions: Sessions, paid: Payee, owner_url: str
    ):
        chosen = await change(sessions, paid, Keypair())
        assert chosen.payable_from - chosen.created_at >= timedelta(hours=72)
        pass_time(owner_url, paid, hours=71.9)
        found = await standing(sessions, paid)
        assert isinstance(found, NotPayable)
        assert found.reason is NoWallet.COOLING_DOWN
        assert found.until is not None
        assert found.until.strftime("%d %b %Y") in found.in_words()
        pass_time(owner_url, paid, hours=0.2)
        after = await standing(sessions, paid)
        assert isinstance(after, PayableWallet)
        assert after.address == chosen.address

    async def test_rules_may_make_it_longer(self, sessions: Sessions, paid: Payee):
        week = WalletRules(cool_down=timedelta(days=7), proof_fresh=timedelta(minutes=10))
        async with session_scope(sessions) as session:
            chosen = await choose(session, paid, Keypair(), rules=week)
        assert chosen.payable_from - chosen.created_at > timedelta(days=6, hours=23)

    async def test_cancelling_returns_to_the_wallet_before(self, sessions: Sessions, paid: Payee):
        await change(sessions, paid, Keypair())
        again = await cancel(sessions, paid)
        assert again is not None
        found = await standing(sessions, paid)
        assert isinstance(found, PayableWallet)
        assert found.address == paid.address

    async def test_cancelling_skips_what_never_cooled_down(self, sessions: Sessions, paid: Payee):
        """Who sets a wallet twice leaves none of theirs behind when the owner cancels once."""
        await change(sessions, paid, Keypair())
        await change(sessions, paid, Keypair())
        await cancel(sessions, paid)
        found = await standing(sessions, paid)
        assert isinstance(found, PayableWallet)
        assert found.address == paid.address

    async def test_wallet_whose_proof_was_withdrawn_does_not_return(self, sessions: Sessions, paid: Payee):
        await change(sessions, paid, Keypair())
        async with session_scope(sessions) as session:
            await withdraw_proof(session, organization_id=paid.organization_id, address=paid.address)
        assert await cancel(sessions, paid) is None
        assert await standing(sessions, paid) == NotPayable(reason=NoWallet.NONE_CHOSEN)

    async def test_nothing_is_cancelled_after_it(self, sessions: Sessions, paid: Payee, owner_url: str):
        for hours in (0, 73):
            with pytest.raises(Conflict, match="cooling down"):
                await cancel(sessions, paid)
            await change(sessions, paid, Keypair())
            if hours == 0:
                pass_time(owner_url, paid, hours=73)

    async def test_history_keeps_every_choice(self, sessions: Sessions, paid: Payee):
        await change(sessions, paid, Keypair())
        await cancel(sessions, paid)
        async with session_scope(sessions) as session:
            reasons = await session.scalars(
                select(PayoutWallet.end_reason)
                .where(PayoutWallet.provider_id == paid.provider_id)
                .order_by(PayoutWallet.id)
            )
            assert reasons.all() == [None, EndReason.CANCELLED]


class TestErasure:
    async def test_choices_go_with_their_organization_and_not_before(self, sessions: Sessions, paid: Payee):
        """Also those that refer to one another; the guard against removal lets the erasure alone through."""
        await change(sessions, paid, Keypair())
        erasure = OrganizationErasure(
            id=new_id(),
            organization_id=paid.organization_id,
            requested_by=paid.owner_id,
            due_at=now() - timedelta(days=1),
        )
        of_payee = PayoutWallet.provider_id == paid.provider_id
        with pytest.raises(DBAPIError, match="kept for as long as their organization is"):
            async with session_scope(sessions) as session:
                await session.execute(delete(PayoutWallet).where(of_payee))
        async with session_scope(sessions) as session:
            session.add(erasure)
            await session.flush()
            assert await erase(session, erasure.id) is not None
        async with session_scope(sessions) as session:
            assert await session.scalar(select(func.count()).where(of_payee)) == 0


class TestWarnings:
    async def test_wallet_of_another_organization_needs_acknowledgement(
        self, sessions: Sessions, payee: Payee
    ):
        async with session_scope(sessions) as session:
            rival = await make_payee(session)
            await prove(session, rival, payee.wallet)
        with pytest.raises(WarningsNotAcknowledged, match="another organization") as refused:
            async with session_scope(sessions) as session:
                await choose(session, payee, payee.wallet)
        assert refused.value.warnings == (WalletWarning.SHARED,)
        async with session_scope(sessions) as session:
            chosen = await choose(session, payee, payee.wallet, acknowledged=[WalletWarning.SHARED])
        assert chosen.warnings == ["shared"]

    def test_listed_addresses_are_wallets_that_can_be_read(self):
        assert len(_exchanges()) >= 25
        assert exchange_of("9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM") == "Binance"
        assert exchange_of(str(Keypair().pubkey())) is None
        for address in _exchanges():
            assert read_address(address) == address

    async def test_exchanges_address_is_warned_of(
        self, sessions: Sessions, payee: Payee, monkeypatch: pytest.MonkeyPatch
    ):
        """Nobody has an exchange's key here: the list is made to hold a wallet of ours."""
        monkeypatch.setitem(_exchanges(), payee.address, "Somewhere")
        with pytest.raises(WarningsNotAcknowledged, match="Somewhere") as refused:
            async with session_scope(sessions) as session:
                await choose(session, payee, payee.wallet)
        assert "[EXCHANGE]" in refused.value.message
        async with session_scope(sessions) as session:
            assert await choose(session, payee, payee.wallet, acknowledged=[WalletWarning.EXCHANGE])


class TestPayable:
    async def test_many_are_answered_in_one_statement(self, sessions: Sessions, paid: Payee, payee: Payee):
        stranger = new_id()
        async with session_scope(sessions) as session:
            found = await payable_wallets(session, [paid.provider_id, payee.provider_id, stranger])
        assert isinstance(found[paid.provider_id], PayableWallet)
        assert found[payee.provider_id] == found[stranger] == NotPayable(reason=NoWallet.NONE_CHOSEN)

    def test_each_reason_has_words(self):
        for reason in NoWallet:
            if reason is not NoWallet.COOLING_DOWN:
                assert len(NotPayable(reason=reason, finding="it is frozen").in_words()) > 20


def test_errors_name_the_next_step() -> None:
    assert issubclass(WarningsNotAcknowledged, DomainError)
