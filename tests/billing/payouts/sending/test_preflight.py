"""What is seen before anything is signed."""

from uuid import UUID

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from spl.token.constants import TOKEN_PROGRAM_ID

from raymart_billing.payouts.sending.facts import Part
from raymart_billing.payouts.sending.preflight import (
    CLOSED_AGAIN,
    OpenAccounts,
    Quarantine,
    Ready,
    Rents,
    cost_lamports,
    inspect,
    why_short,
)
from raymart_billing.payouts.sending.purse import Purse
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.solana.answers import ChainAccount
from raymart_billing.solana.fees import Funds
from support.planned_part import WALLET, part

MINT = Keypair().pubkey()
RULES = SendingRules()
RENTS = Rents(marker=890_880, token_account=2_039_280)


def account(
    *, mint: Pubkey = MINT, owner: Pubkey = WALLET, state: int = 1, program: str | None = None
) -> ChainAccount:
    data = bytes(mint) + bytes(owner) + (5).to_bytes(8, "little") + bytes(36) + bytes([state])
    return ChainAccount(
        address="account 0",
        lamports=1,
        owner=program or str(TOKEN_PROGRAM_ID),
        data=data + bytes(165 - len(data)),
        is_executable=False,
        slot=1,
    )


def verdict(given: Part, *accounts: ChainAccount | None, opened: dict[str, int] | None = None):
    found = {payee.token_account: one for payee, one in zip(given.payees, accounts, strict=True)}
    return inspect(given, found, mint=MINT, opened=opened or {}, rules=RULES)


class TestInspect:
    def test_good_account_is_ready(self):
        assert verdict(part(), account()) == Ready()

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"mint": Keypair().pubkey()}, "wrong_mint"),
            ({"owner": Keypair().pubkey()}, "wrong_owner"),
            ({"state": 2}, "account_frozen"),
            ({"state": 0}, "account_missing"),
            ({"program": "11111111111111111111111111111111"}, "account_missing"),
        ],
    )
    def test_bad_account_is_quarantined_with_its_reason(self, changes, reason):
        assert verdict(part(), account(**changes)) == Quarantine(reasons={UUID(int=10): reason})

    def test_missing_account_is_opened(self):
        given = part(payees=2)
        assert verdict(given, account(), None) == OpenAccounts(payees=[given.payees[1]])

    def test_account_that_was_paid_for_before_is_not_opened_again(self):
        found = verdict(part(), None, opened={"account 0": 1})
        assert found == Quarantine(reasons={UUID(int=10): CLOSED_AGAIN})

    def test_bad_account_goes_before_a_missing_one(self):
        assert isinstance(verdict(part(payees=2), account(state=2), None), Quarantine)

    def test_nobody_is_looked_at_when_the_marker_is_to_be_burnt(self):
        assert inspect(part(is_quarantined=True), {}, mint=MINT, opened={}, rules=RULES) == Ready()


class TestCost:
    def test_payout_and_burn_take_a_fee_and_a_rent(self):
        most = 5_000 + RULES.priority_fee_lamports_max + RENTS.marker
        assert cost_lamports(part(), 0, rents=RENTS, rules=RULES) == most
        assert cost_lamports(part(is_quarantined=True), 0, rents=RENTS, rules=RULES) == most

    @pytest.mark.parametrize(("accounts", "transactions"), [(1, 1), (10, 1), (11, 2), (57, 6)])
    def test_opening_takes_a_rent_each_and_a_fee_for_ten(self, accounts, transactions):
        fees = transactions * (5_000 + RULES.priority_fee_lamports_max)
        assert (
            cost_lamports(part(), accounts, rents=RENTS, rules=RULES) == accounts * RENTS.token_account + fees
        )


def funds(lamports: int = 10_000_000, micro_usdc: int = 100) -> Funds:
    return Funds(
        lamports=lamports,
        micro_usdc=micro_usdc,
        has_token_account=True,
        is_frozen=False,
        rent_lamports=890_880,
    )


class TestPurse:
    def test_what_one_takes_the_next_does_not_have(self):
        purse = Purse(funds(), in_flight_lamports=0, in_flight_micro_usdc=0)
        assert purse.take(lamports=1, micro_usdc=60) is None
        assert purse.take(lamports=1, micro_usdc=60) is not None
        assert purse.take(lamports=1, micro_usdc=40) is None

    def test_what_is_in_flight_is_not_there(self):
        purse = Purse(funds(), in_flight_lamports=0, in_flight_micro_usdc=50)
        assert "has 50 micro-USDC for it and 51 are needed" in (purse.take(lamports=1, micro_usdc=51) or "")

    def test_refusal_takes_nothing(self):
        purse = Purse(funds(), in_flight_lamports=0, in_flight_micro_usdc=0)
        assert purse.take(lamports=10**12, micro_usdc=100) is not None
        assert purse.take(lamports=1, micro_usdc=100) is None

    def test_rent_of_the_treasury_itself_is_not_for_fees(self):
        reason = why_short(funds(lamports=900_000), lamports=10_000, micro_usdc=1)
        assert reason == "treasury_short_of_sol: the treasury has 9120 lamports for it and 10000 are needed"
