"""What a landed transaction has paid, by the chain's own balances."""

from dataclasses import replace
from uuid import UUID

import pytest

from raymart_billing.payouts.sending.facts import Payee
from raymart_billing.payouts.sending.landings import landing_of
from raymart_billing.solana.answers import ChainTransaction, TokenBalance
from raymart_billing.solana.failures import read_failure

TREASURY, ACCOUNT, MARKER, MINT = "treasury", "treasury account", "marker", "mint"


def payee(number: int, micro: int, account: str | None = None) -> Payee:
    return Payee(
        item_id=UUID(int=number),
        wallet=f"wallet {number}",
        token_account=account or f"account {number}",
        amount_micro_usdc=micro,
        is_quarantined=False,
    )


def moved(account: str, micro: int, mint: str = MINT) -> TokenBalance:
    return TokenBalance(account=account, mint=mint, owner=None, before=1_000, after=1_000 + micro)


def transaction(*balances: TokenBalance, **changes: object) -> ChainTransaction:
    made = ChainTransaction(
        signature="signature",
        slot=5,
        block_time=None,
        error=None,
        fee_lamports=5_000,
        accounts=(TREASURY, MARKER),
        signers=(TREASURY,),
        lamports_before=(10, 0),
        lamports_after=(5, 5),
        token_balances=balances,
    )
    return replace(made, **changes)


def landing(given: ChainTransaction, *payees: Payee):
    return landing_of(
        given, marker=MARKER, treasury=TREASURY, treasury_account=ACCOUNT, mint=MINT, payees=payees
    )


class TestLandingOf:
    PAYEES = (payee(1, 10), payee(2, 20))

    def test_all_are_paid(self):
        found = landing(
            transaction(moved(ACCOUNT, -30), moved("account 1", 10), moved("account 2", 20)), *self.PAYEES
        )
        assert (list(found.paid), found.unknown_micro_usdc, found.is_ours) == (
            [UUID(int=1), UUID(int=2)],
            0,
            True,
        )

    def test_burnt_marker_pays_nobody(self):
        found = landing(transaction(), *self.PAYEES)
        assert (list(found.paid), found.unknown_micro_usdc) == ([], 0)

    def test_some_are_paid(self):
        found = landing(transaction(moved(ACCOUNT, -10), moved("account 1", 10)), *self.PAYEES)
        assert (list(found.paid), found.unknown_micro_usdc) == ([UUID(int=1)], 0)

    @pytest.mark.parametrize("got", [9, 11])
    def test_other_amount_is_unknown(self, got):
        found = landing(transaction(moved(ACCOUNT, -got), moved("account 1", got)), *self.PAYEES)
        assert (list(found.paid), found.unknown_micro_usdc) == ([], got)

    def test_stranger_who_got_money_is_unknown(self):
        found = landing(
            transaction(
                moved(ACCOUNT, -40), moved("account 1", 10), moved("account 2", 20), moved("other", 10)
            ),
            *self.PAYEES,
        )
        assert found.unknown_micro_usdc == 10

    def test_other_token_pays_nobody(self):
        found = landing(transaction(moved("account 1", 10, mint="other")), *self.PAYEES)
        assert list(found.paid) == []

    def test_two_who_share_a_wallet_are_paid_by_their_sum(self):
        shared = (payee(1, 10, "shared"), payee(2, 20, "shared"))
        assert len(landing(transaction(moved(ACCOUNT, -30), moved("shared", 30)), *shared).paid) == 2
        half = landing(transaction(moved(ACCOUNT, -10), moved("shared", 10)), *shared)
        assert (list(half.paid), half.unknown_micro_usdc) == ([], 10)

    def test_marker_that_was_there_before_was_made_by_another(self):
        assert landing(transaction(lamports_before=(10, 1)), *self.PAYEES) is None

    def test_transaction_that_failed_made_nothing(self):
        failed = transaction(error=read_failure("AccountInUse"))
        assert landing(failed, *self.PAYEES) is None

    def test_transaction_without_the_marker_made_another(self):
        assert landing(transaction(accounts=(TREASURY, "other")), *self.PAYEES) is None

    def test_marker_that_a_stranger_made_is_not_ours(self):
        assert not landing(transaction(signers=("stranger",)), *self.PAYEES).is_ours
