"""The demo's claims: true for books that add up, false as soon as one number is off."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from raymart_core.money import ZERO, Money
from raymart_local.demo.books import CustomerBooks, ProviderBooks, TrialBalance, Usage
from raymart_local.demo.claims import Outcome, claims
from raymart_local.demo.long_stream import BEGINNING, TOKENS, LongStream
from raymart_local.demo.outage import Answered, Outage, told
from raymart_local.demo.payouts import PaidProviders, Payout
from raymart_local.demo.pictures import WISHES, Picture, Wish
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
        pixel_steps=0,
        price_megapixel_step=Money(0),
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


def picture_usage(number: int, provider: str) -> Usage:
    """A picture of 64 x 64 in 20 steps at 2,000 nano-USD a megapixel-step: 163.84, rounded down."""
    record = usage(provider, prompt=0, completion=0)
    fee = Money(163).portion_rounded_down(basis_points=1_000)
    return replace(
        record, request_id=f"req_picture_{number}", pixel_steps=81_920, price_megapixel_step=Money(2_000),
        amount=Money(163), provider_amount=Money(163) - fee, fee=fee,
    )  # fmt: skip


def drawn(wish: Wish, *, side: int = 64, compress_level: int = 6) -> bytes:
    """A PNG that shows `wish`."""
    image = Image.new("RGB", (side, side), wish.background)
    ImageDraw.Draw(image).ellipse((side // 5, side // 5, side - side // 5, side - side // 5), fill=wish.shape)
    file = BytesIO()
    image.save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


def picture(record: Usage, wish: Wish, *, steps_seen: int | None = None) -> Picture:
    return Picture(
        request_id=record.request_id,
        way="GraphQL",
        provider=record.provider,
        wish=wish,
        seed=7,
        pixel_steps=record.pixel_steps,
        cost=record.amount,
        content=drawn(wish),
        steps_seen=steps_seen,
    )


def payout(slug: str, earned: Money) -> Payout:
    """A micro-USDC, a tenth kept back, the rest carried over."""
    reserved = earned.portion_rounded_down(basis_points=1_000)
    return Payout(
        provider_id=f"prov_{slug}",
        slug=slug,
        wallet="wallet",
        paid_micro_usdc=MICRO_PAID,
        on_chain_micro_usdc=MICRO_PAID,
        reserved=reserved,
        payable=earned - reserved - Money(MICRO_PAID * 1_000),
        in_payout=Money(0),
        signature=f"signature of {slug}",
        explorer_url="https://explorer.example",
    )


PARTS = [
    replace(usage("alpha", prompt=20, completion=100), request_id="req_stream"),
    replace(usage("beta", prompt=0, completion=TOKENS - 100), request_id="req_stream"),
]
STREAM = LongStream(
    request_id="req_stream", text=BEGINNING + " And on.", finish="length", tokens_prompt=20, tokens_completion=TOKENS,
    cost=sum((part.amount for part in PARTS), ZERO), resumed_at=[100], providers=["alpha", "beta"], longest_gap_s=0.1,
)  # fmt: skip
UNANSWERED = Answered(asked_at_s=2.0, took_s=0.1, answer=None, error="REST answered 502")
SMALL = drawn(WISHES[1], side=32)
AGAIN = drawn(WISHES[0], side=64, compress_level=0)
"""The same picture in other bytes."""


def outage() -> Outage:
    """The machine of alpha dies after two of four questions, of which it had answered one."""
    served = [("alpha", 0.0), ("beta", 0.5), ("beta", 1.0), ("beta", 1.5)]
    return Outage(
        node="demo-a",
        provider="alpha",
        processes=9,
        killed_at_s=1.0,
        asked=[
            Answered(asked_at_s=at_s, took_s=0.1, answer=purchase(usage(slug, prompt=1, completion=1)))
            for slug, at_s in served
        ],
        stream=STREAM,
        back_after_s=21.0,
    )


def honest() -> Outcome:
    """Two requests, one at each provider, and books that say so."""
    texts = [usage("alpha", prompt=100, completion=50), usage("beta", prompt=70, completion=30)]
    drawings = [picture_usage(number, slug) for number, slug in enumerate(("alpha", "beta", "beta"))]
    records = [*texts, *drawings, *PARTS]
    spent = sum((record.amount for record in records), ZERO)
    fee = sum((record.fee for record in records), ZERO)
    circle, square = WISHES
    granted, topped_up = Money(3_000_000_000), Money(1_250_000_000)
    balances = {
        "CUSTOMER_BALANCE": granted + topped_up - spent,
        "EXTERNAL_USDC": Money(-topped_up.amount),
        "PROVIDER_PAYABLE": spent - fee,
        "PLATFORM_FEE": fee,
        "PROMOTIONAL_CREDIT": Money(-granted.amount),
    }
    earned = {
        slug: sum((r.provider_amount for r in records if r.provider == slug), ZERO)
        for slug in ("alpha", "beta")
    }
    payouts = [payout(slug, amount) for slug, amount in earned.items()]
    return Outcome(
        granted=granted,
        top_up=TopUp(
            asked=topped_up, deposits=1, credited=topped_up, signature="paid", deposit_signature="paid"
        ),
        purchases=[purchase(record) for record in texts],
        wrong_answers=[],
        pictures=[
            picture(drawings[0], circle),
            picture(drawings[1], circle),
            picture(drawings[2], square, steps_seen=20),
        ],
        saved=Path("image.png"),
        customer=CustomerBooks(balance=granted + topped_up - spent, pending=Money(0), usage=records),
        providers=[
            ProviderBooks(provider_id=f"prov_{slug}", slug=slug, name=slug, earned=amount)
            for slug, amount in earned.items()
        ],
        outage=outage(),
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


def with_stream(outcome: Outcome, **changes: object) -> Outcome:
    return replace(outcome, outage=replace(outcome.outage, stream=replace(outcome.outage.stream, **changes)))


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
            (
                lambda o: replace(o, purchases=o.purchases[:1], pictures=o.pictures[:1]),
                "both providers served",
            ),
            (
                lambda o: replace(o, pictures=[*o.pictures[:2], replace(o.pictures[2], wish=WISHES[0])]),
                "every picture shows what was asked for",
            ),
            (lambda o: replace(o, pictures=[]), "every picture shows what was asked for"),
            (
                lambda o: replace(o, pictures=[*o.pictures[:2], replace(o.pictures[2], content=SMALL)]),
                "every picture shows what was asked for",
            ),
            (
                lambda o: replace(
                    o, pictures=[o.pictures[0], replace(o.pictures[1], content=AGAIN), o.pictures[2]]
                ),
                "one seed gives one picture, whoever makes it",
            ),
            (
                lambda o: replace(o, pictures=[o.pictures[0], o.pictures[2]]),
                "one seed gives one picture, whoever makes it",
            ),
            (
                lambda o: replace(o, pictures=[replace(o.pictures[2], steps_seen=19)]),
                "progress was told step by step",
            ),
            (
                lambda o: replace(o, pictures=[replace(o.pictures[0], pixel_steps=81_919)]),
                "pictures cost their megapixel-steps",
            ),
            (
                lambda o: replace(o, purchases=[replace(p, pieces=1) for p in o.purchases]),
                "streamed answers came piece by piece",
            ),
            (
                lambda o: replace(o, purchases=[replace(p, tokens_prompt=9) for p in o.purchases]),
                "every answer named the usage and the cost that it was billed",
            ),
            (
                lambda o: replace(o, purchases=[replace(p, cost=p.cost + Money(1)) for p in o.purchases]),
                "every answer named the usage and the cost that it was billed",
            ),
            (
                lambda o: with_usage(o, [*o.customer.usage, usage("gamma", prompt=1, completion=1)]),
                "every answer named the usage and the cost that it was billed",
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
            (
                lambda o: replace(o, outage=replace(o.outage, asked=[*o.outage.asked, UNANSWERED])),
                "no request failed when a machine was killed",
            ),
            (
                lambda o: replace(o, outage=replace(o.outage, asked=[])),
                "no request failed when a machine was killed",
            ),
            (
                lambda o: replace(o, outage=replace(o.outage, asked=o.outage.asked[1:])),
                "the others took over its work",
            ),
            (
                lambda o: replace(o, outage=replace(o.outage, killed_at_s=9.0)),
                "the others took over its work",
            ),
            (
                lambda o: with_stream(o, resumed_at=[]),
                "a stream whose machine was killed is whole",
            ),
            (
                lambda o: with_stream(o, tokens_completion=TOKENS - 1),
                "a stream whose machine was killed is whole",
            ),
            (
                lambda o: with_stream(o, text="A payout"),
                "a stream whose machine was killed is whole",
            ),
            (
                lambda o: with_stream(o, cost=o.outage.stream.cost + Money(1)),
                "it is billed once, each provider for its part",
            ),
            (
                lambda o: with_usage(o, [*o.customer.usage, PARTS[0]]),
                "it is billed once, each provider for its part",
            ),
            (
                lambda o: replace(o, outage=replace(o.outage, back_after_s=None)),
                "the machine came back by itself",
            ),
        ],
    )
    def test_one_wrong_number_makes_its_claim_false(self, lie: Callable[[Outcome], Outcome], sentence: str):
        outcome = lie(honest())
        assert sentence in untrue(outcome)
        assert report(outcome, claims(outcome), seconds=1.0)["ok"] is False

    def test_two_errors_that_cancel_out_are_found(self):
        """The sum is right, but each record is wrong by one."""
        first, second, *others = honest().customer.usage
        swapped = [
            *others,
            replace(first, amount=first.amount + Money(1)),
            replace(second, amount=second.amount - Money(1)),
        ]
        assert "usage x price = spent" in untrue(with_usage(honest(), swapped))


class TestTold:
    def test_it_says_who_was_killed_and_who_answered(self):
        assert told(outage()) == (
            "demo-a of alpha was killed in the middle of 4 questions: 2 asked before (alpha: 1, beta: 1), "
            "2 after (beta: 2), 0 failed, the longest took 0.1 s; a stream of 300 tokens went on at 100 tokens"
        )


class TestReport:
    def test_fields_are_the_contracts(self):
        document = report(honest(), claims(honest()), seconds=41.26)
        assert document["seconds"] == 41.3
        assert document["requests"] == 6
        assert document["failover"] == {"happened": True, "stream_complete": True, "billed_once": True}
        assert document["image"] == {"path": "image.png", "width": 64, "height": 64}
        assert document["providers"] == [
            _provider("alpha", requests=3, earned=20_667),
            _provider("beta", requests=4, earned=27_654),
        ]
        assert document["customer"] == {
            "topped_up_nano_usd": 4_250_000_000,
            "spent_nano_usd": 53_689,
            "balance_nano_usd": 4_249_946_311,
        }
        assert document["platform_fee_nano_usd"] == 5_368
        assert document["ledger"] == {"sum": 0, "trial_balance_ok": True}
        assert document["outage"] == {
            "node": "demo-a",
            "provider": "alpha",
            "processes_killed": 9,
            "requests_before": 2,
            "requests_after": 2,
            "requests_failed": 0,
            "longest_request_s": 0.1,
            "back_after_s": 21.0,
        }


def _provider(slug: str, *, requests: int, earned: int) -> dict[str, object]:
    return {
        "id": f"prov_{slug}",
        "requests": requests,
        "earned_nano_usd": earned,
        "paid_micro_usdc": MICRO_PAID,
        "payout_signature": f"signature of {slug}",
    }
