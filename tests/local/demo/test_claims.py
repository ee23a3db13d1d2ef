"""The demo's claims: true for books that add up, false as soon as one number is off."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from raymart_core.money import Money
from raymart_local.demo.books import CustomerBooks, ProviderBooks, TrialBalance, Usage
from raymart_local.demo.claims import Outcome, claims
from raymart_local.demo.payouts import PaidProviders, Payout
from raymart_local.demo.purchase import Purchase
from raymart_local.demo.statement import report
from raymart_local.demo.top_up import TopUp

MICRO_PAID = 1


def usage(provider: str, *, prompt: int, completion: int) -> Usage:
    amount = Money(40 * prompt + 120 * completion)
    fee = amount.portion_rounded_down(basis_points=1_000)
    return Usage(
        request_id=f"req_{provider}",
        provider_id=f"prov_{provider}",
        provider=provider,
        tokens_prompt=prompt,
        tokens_completion=completion,
        price_prompt=Money(40),
        price_completion=Money(120),
        amount=amount,
        provider_amount=amount - fee,
        fee=fee,
        exact=True,
        posted=True,
    )


def purchase(record: Usage) -> Purchase:
    return Purchase(
        request_id=record.request_id,
        way="REST",
        text="pong",
        provider=record.provider,
        tokens_prompt=record.tokens_prompt,
        tokens_completion=record.tokens_completion,
        cost=record.amount,
        pieces=3,
    )


def payout(record: Usage) -> Payout:
    """A micro-USDC, a tenth kept back, the rest carried over."""
    reserved = record.provider_amount.portion_rounded_down(basis_points=1_000)
    return Payout(
        provider_id=record.provider_id,
        slug=record.provider,
        wallet="wallet",
        paid_micro_usdc=MICRO_PAID,
        on_chain_micro_usdc=MICRO_PAID,
        reserved=reserved,
        payable=record.provider_amount - reserved - Money(MICRO_PAID * 1_000),
        in_payout=Money(0),
        signature=f"signature of {record.provider}",
        explorer_url="https://explorer.example",
    )


def honest() -> Outcome:
    """Two requests, one at each provider, and books that say so."""
    records = [usage("alpha", prompt=100, completion=50), usage("beta", prompt=70, completion=30)]
    spent = records[0].amount + records[1].amount
    fee = records[0].fee + records[1].fee
    granted, topped_up = Money(3_000_000_000), Money(1_250_000_000)
    balances = {
        "CUSTOMER_BALANCE": granted + topped_up - spent,
        "EXTERNAL_USDC": Money(-topped_up.amount),
        "PROVIDER_PAYABLE": spent - fee,
        "PLATFORM_FEE": fee,
        "PROMOTIONAL_CREDIT": Money(-granted.amount),
    }
    payouts = [payout(record) for record in records]
    return Outcome(
        granted=granted,
        top_up=TopUp(
            asked=topped_up, deposits=1, credited=topped_up, signature="paid", deposit_signature="paid"
        ),
        purchases=[purchase(record) for record in records],
        wrong_answers=[],
        customer=CustomerBooks(balance=granted + topped_up - spent, pending=Money(0), usage=records),
        providers=[
            ProviderBooks(
                provider_id=r.provider_id, slug=r.provider, name=r.provider, earned=r.provider_amount
            )
            for r in records
        ],
        paid=PaidProviders(
            batch=1,
            total_micro_usdc=sum(payout.paid_micro_usdc for payout in payouts),
            payouts=payouts,
            seconds=13.0,
            reconciled_transactions=2,
            differences=[],
        ),
        trial=TrialBalance(
            balances=balances, debits=granted + spent, credits=granted + spent, drift=Money(0), balanced=True
        ),
    )


def with_payout(outcome: Outcome, **changes: object) -> Outcome:
    first, *rest = outcome.paid.payouts
    return replace(outcome, paid=replace(outcome.paid, payouts=[replace(first, **changes), *rest]))


def untrue(outcome: Outcome) -> set[str]:
    return {claim.sentence for claim in claims(outcome) if not claim.is_true}


def with_usage(outcome: Outcome, records: Sequence[Usage]) -> Outcome:
    return replace(outcome, customer=replace(outcome.customer, usage=records))


def with_balance_of(outcome: Outcome, kind: str, amount: Money) -> Outcome:
    balances = {**outcome.trial.balances, kind: amount}
    return replace(outcome, trial=replace(outcome.trial, balances=balances))


class TestClaims:
    def test_honest_books_make_every_claim_true(self):
        assert untrue(honest()) == set()
        assert report(honest(), claims(honest()), seconds=1.0)["ok"] is True

    @pytest.mark.parametrize(
        ("lie", "sentence"),
        [
            (lambda o: replace(o, wrong_answers=["ping -> nope"]), "every greedy answer came back exactly"),
            (lambda o: replace(o, purchases=o.purchases[:1]), "both providers served"),
            (
                lambda o: replace(o, purchases=[replace(p, pieces=1) for p in o.purchases]),
                "streamed answers came piece by piece",
            ),
            (
                lambda o: replace(o, purchases=[replace(p, tokens_prompt=9) for p in o.purchases]),
                "every answer named the tokens and the cost that it was billed",
            ),
            (
                lambda o: replace(o, purchases=[replace(p, cost=p.cost + Money(1)) for p in o.purchases]),
                "every answer named the tokens and the cost that it was billed",
            ),
            (
                lambda o: with_usage(o, [*o.customer.usage, usage("gamma", prompt=1, completion=1)]),
                "every answer named the tokens and the cost that it was billed",
            ),
            (
                lambda o: with_usage(o, [replace(r, amount=r.amount + Money(1)) for r in o.customer.usage]),
                "usage x price = spent",
            ),
            (
                lambda o: replace(o, providers=[replace(p, earned=p.earned + Money(1)) for p in o.providers]),
                "spent = earnings + platform fee",
            ),
            (lambda o: with_balance_of(o, "PLATFORM_FEE", Money(0)), "spent = earnings + platform fee"),
            (
                lambda o: replace(o, customer=replace(o.customer, balance=o.customer.balance - Money(1))),
                "granted + topped up - spent = balance",
            ),
            (lambda o: with_balance_of(o, "PLATFORM_LOSS", Money(-1)), "the trial balance is zero"),
            (lambda o: replace(o, trial=replace(o.trial, drift=Money(1))), "the trial balance is zero"),
            (lambda o: replace(o, trial=replace(o.trial, balanced=False)), "the trial balance is zero"),
            (
                lambda o: replace(o, top_up=replace(o.top_up, deposits=2)),
                "what was paid by QR code is credited once",
            ),
            (
                lambda o: replace(o, top_up=replace(o.top_up, credited=Money(1))),
                "what was paid by QR code is credited once",
            ),
            (
                lambda o: with_payout(o, on_chain_micro_usdc=MICRO_PAID + 1),
                "every provider has on the chain what the ledger says it was paid",
            ),
            (
                lambda o: with_payout(o, paid_micro_usdc=0, on_chain_micro_usdc=0),
                "every provider has on the chain what the ledger says it was paid",
            ),
            (lambda o: with_payout(o, reserved=Money(0)), "earned = paid + kept back + carried over"),
            (lambda o: with_payout(o, in_payout=Money(1)), "earned = paid + kept back + carried over"),
            (
                lambda o: replace(o, paid=replace(o.paid, differences=["amount payout_item 1: 5 / 6"])),
                "chain and ledger agree",
            ),
            (lambda o: replace(o, paid=replace(o.paid, reconciled_transactions=0)), "chain and ledger agree"),
        ],
    )
    def test_one_wrong_number_makes_its_claim_false(self, lie: Callable[[Outcome], Outcome], sentence: str):
        outcome = lie(honest())
        assert sentence in untrue(outcome)
        assert report(outcome, claims(outcome), seconds=1.0)["ok"] is False

    def test_two_errors_that_cancel_out_are_found(self):
        """The sum is right, but each record is wrong by one."""
        first, second = honest().customer.usage
        swapped = [
            replace(first, amount=first.amount + Money(1)),
            replace(second, amount=second.amount - Money(1)),
        ]
        assert "usage x price = spent" in untrue(with_usage(honest(), swapped))


class TestReport:
    def test_fields_are_the_contracts(self):
        document = report(honest(), claims(honest()), seconds=41.26)
        assert document["seconds"] == 41.3
        assert document["requests"] == 2
        assert document["providers"] == [
            _provider("alpha", earned=9_000),
            _provider("beta", earned=5_760),
        ]
        assert document["customer"] == {
            "topped_up_nano_usd": 4_250_000_000,
            "spent_nano_usd": 16_400,
            "balance_nano_usd": 4_249_983_600,
        }
        assert document["platform_fee_nano_usd"] == 1_640
        assert document["ledger"] == {"sum": 0, "trial_balance_ok": True}


def _provider(slug: str, *, earned: int) -> dict[str, object]:
    return {
        "id": f"prov_{slug}",
        "requests": 1,
        "earned_nano_usd": earned,
        "paid_micro_usdc": MICRO_PAID,
        "payout_signature": f"signature of {slug}",
    }
