"""The demo's claims: true for books that add up, false as soon as one number is off."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from raymart_core.money import Money
from raymart_local.demo.books import CustomerBooks, ProviderBooks, TrialBalance, Usage
from raymart_local.demo.claims import Outcome, claims
from raymart_local.demo.purchase import Purchase
from raymart_local.demo.statement import report


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


def honest() -> Outcome:
    """Two requests, one at each provider, and books that say so."""
    records = [usage("alpha", prompt=10, completion=5), usage("beta", prompt=7, completion=3)]
    spent = records[0].amount + records[1].amount
    fee = records[0].fee + records[1].fee
    granted = Money(3_000_000_000)
    balances = {
        "CUSTOMER_BALANCE": granted - spent,
        "PROVIDER_PAYABLE": spent - fee,
        "PLATFORM_FEE": fee,
        "PROMOTIONAL_CREDIT": Money(-granted.amount),
    }
    return Outcome(
        granted=granted,
        purchases=[purchase(record) for record in records],
        wrong_answers=[],
        customer=CustomerBooks(balance=granted - spent, pending=Money(0), usage=records),
        providers=[
            ProviderBooks(
                provider_id=r.provider_id, slug=r.provider, name=r.provider, earned=r.provider_amount
            )
            for r in records
        ],
        trial=TrialBalance(
            balances=balances, debits=granted + spent, credits=granted + spent, drift=Money(0), balanced=True
        ),
    )


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
                "granted - spent = balance",
            ),
            (lambda o: with_balance_of(o, "PLATFORM_LOSS", Money(-1)), "the trial balance is zero"),
            (lambda o: replace(o, trial=replace(o.trial, drift=Money(1))), "the trial balance is zero"),
            (lambda o: replace(o, trial=replace(o.trial, balanced=False)), "the trial balance is zero"),
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
            {"id": "prov_alpha", "requests": 1, "earned_nano_usd": 900},
            {"id": "prov_beta", "requests": 1, "earned_nano_usd": 576},
        ]
        assert document["customer"] == {
            "topped_up_nano_usd": 3_000_000_000,
            "spent_nano_usd": 1_640,
            "balance_nano_usd": 2_999_998_360,
        }
        assert document["platform_fee_nano_usd"] == 164
        assert document["ledger"] == {"sum": 0, "trial_balance_ok": True}
