"""What the demo says about itself, checked with the numbers at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raymart_core.money import ZERO, Money
from raymart_local.demo.books import CustomerBooks, ProviderBooks, TrialBalance, Usage
from raymart_local.demo.long_stream import LongStream
from raymart_local.demo.outage import Outage
from raymart_local.demo.payouts import NANO_USD_PER_MICRO_USDC, PaidProviders
from raymart_local.demo.pictures import SIDE_PIXELS, STEPS, Picture
from raymart_local.demo.purchase import Purchase
from raymart_local.demo.top_up import TopUp

Line = tuple[str, str, int, int, int, Money]
"""A request's id, provider, prompt and completion tokens, pixel-steps, and amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence that must be true, with the numbers that make it so or not."""

    sentence: str
    is_true: bool
    numbers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that the demo knows at its end."""

    granted: Money
    """All credit that the customer got, the seed's included."""
    top_up: TopUp
    """What the customer paid in USDC."""
    purchases: Sequence[Purchase]
    wrong_answers: Sequence[str]
    pictures: Sequence[Picture]
    saved: Path
    """Where the first picture is."""
    customer: CustomerBooks
    providers: Sequence[ProviderBooks]
    """Before they were paid."""
    outage: Outage
    """The machine that was killed in the middle."""
    paid: PaidProviders
    trial: TrialBalance

    @property
    def earned(self) -> Money:
        """Sum of the providers' own accounts."""
        return sum((provider.earned for provider in self.providers), ZERO)

    @property
    def fee(self) -> Money:
        """The platform's own account."""
        return self.trial.balances.get("PLATFORM_FEE", ZERO)

    @property
    def stream_parts(self) -> Sequence[Usage]:
        """What the long stream was billed."""
        request_id = self.outage.stream.request_id
        return [record for record in self.customer.usage if record.request_id == request_id]

    @property
    def is_stream_billed_once(self) -> bool:
        """Whether the parts of the long stream are what its reader got, the prompt once, each its provider's."""
        stream, parts = self.outage.stream, self.stream_parts
        prompts = [part.tokens_prompt for part in parts if part.tokens_prompt]
        return (
            prompts == [stream.tokens_prompt]
            and sum(part.tokens_completion for part in parts) == stream.tokens_completion
            and sum((part.amount for part in parts), ZERO) == stream.cost
            and {part.provider for part in parts} == set(stream.providers)
        )

    @property
    def ledger_sum(self) -> Money:
        """Sum over all accounts of the ledger: zero, when every credit has its debit."""
        return sum(self.trial.balances.values(), ZERO)


def claims(outcome: Outcome) -> Sequence[Claim]:
    """Everything that the demo promises about `outcome`."""
    return [
        *_claims_about_service(outcome),
        *_claims_about_pictures(outcome),
        *_claims_about_the_outage(outcome),
        *_claims_about_money(outcome),
        *_claims_about_payouts(outcome),
    ]


def _claims_about_service(outcome: Outcome) -> Sequence[Claim]:
    purchases, wrong = outcome.purchases, outcome.wrong_answers
    pieces = [purchase.pieces for purchase in purchases if purchase.pieces is not None]
    served = {
        provider.slug: sum(p.provider == provider.slug for p in purchases)
        + sum(p.provider == provider.slug for p in outcome.pictures)
        for provider in outcome.providers
    }
    seen = _seen(outcome)
    return [
        Claim(
            sentence="every greedy answer came back exactly",
            is_true=not wrong,
            numbers="; ".join(wrong) or f"{len(purchases)} answers",
        ),
        Claim(
            sentence="streamed answers came piece by piece",
            is_true=bool(pieces) and sum(pieces) > len(pieces),
            numbers=f"{len(pieces)} answers in {sum(pieces)} pieces",
        ),
        Claim(
            sentence="both providers served",
            is_true=len(served) == 2 and all(served.values()),
            numbers=", ".join(f"{slug}: {count} requests" for slug, count in served.items()),
        ),
        Claim(
            sentence="every answer named the usage and the cost that it was billed",
            is_true=seen == _billed(outcome.customer, outcome.outage.stream),
            numbers=f"{len(seen & _billed(outcome.customer, outcome.outage.stream))} of {len(seen)} answers",
        ),
    ]


def _claims_about_pictures(outcome: Outcome) -> Sequence[Claim]:
    pictures = outcome.pictures
    wrong = [text for picture in pictures if (text := picture.wrong())]
    by_wish: dict[tuple[str, int], set[bytes]] = {}
    for picture in pictures:
        by_wish.setdefault((picture.wish.prompt, picture.seed), set()).add(picture.content)
    updates = [picture.steps_seen for picture in pictures if picture.steps_seen is not None]
    return [
        Claim(
            sentence="every picture shows what was asked for",
            is_true=bool(pictures) and not wrong,
            numbers="; ".join(wrong) or f"{len(pictures)} pictures; the first is {outcome.saved}",
        ),
        Claim(
            sentence="one seed gives one picture, whoever makes it",
            is_true=len(by_wish) < len(pictures) and all(len(made) == 1 for made in by_wish.values()),
            numbers=f"{sum(len(made) for made in by_wish.values())} different of {len(pictures)}, "
            f"{len(by_wish)} asked for",
        ),
        Claim(
            sentence="progress was told step by step",
            is_true=bool(updates) and all(seen == STEPS for seen in updates),
            numbers=f"{', '.join(map(str, updates))} of {STEPS} steps",
        ),
        Claim(
            sentence="pictures cost their megapixel-steps",
            is_true=all(picture.pixel_steps == SIDE_PIXELS**2 * STEPS for picture in pictures),
            numbers=", ".join(f"{picture.pixel_steps} at {picture.cost}" for picture in pictures),
        ),
    ]


def _claims_about_the_outage(outcome: Outcome) -> Sequence[Claim]:
    outage, stream = outcome.outage, outcome.outage.stream
    who = f"{outage.node} of {outage.provider}"
    back_s = outage.back_after_s
    return [
        Claim(
            sentence="no request failed when a machine was killed",
            is_true=not outage.failed and len(outage.purchases) == len(outage.asked) > 0,
            numbers="; ".join(outage.failed[:3])
            or f"{outage.before.total()} before, {outage.after.total()} after {who} was killed, "
            f"the longest {outage.longest_s:.1f} s",
        ),
        Claim(
            sentence="the others took over its work",
            is_true=outage.before[outage.provider] > 0
            and outage.after.total() > outage.after[outage.provider],
            numbers=f"{outage.provider} answered {outage.before[outage.provider]} of {outage.before.total()} "
            f"before, {outage.after[outage.provider]} of {outage.after.total()} after",
        ),
        Claim(
            sentence="a stream whose machine was killed is whole",
            is_true=bool(stream.resumed_at) and stream.is_whole,
            numbers=f"{stream.tokens_completion} tokens by {' and '.join(stream.providers)}, taken up at "
            f"{', '.join(map(str, stream.resumed_at)) or 'none'}, the longest gap {stream.longest_gap_s:.2f} s",
        ),
        Claim(
            sentence="it is billed once, each provider for its part",
            is_true=outcome.is_stream_billed_once,
            numbers=", ".join(
                f"{part.provider}: {part.tokens_completion} tokens at {part.amount}"
                for part in outcome.stream_parts
            ),
        ),
        Claim(
            sentence="the machine came back by itself",
            is_true=back_s is not None,
            numbers=f"{who} after {back_s:.0f} s" if back_s is not None else f"{who} did not",
        ),
    ]


def _claims_about_money(outcome: Outcome) -> Sequence[Claim]:
    customer, spent = outcome.customer, outcome.customer.spent
    priced = sum((record.priced for record in customer.usage), ZERO)
    trial = outcome.trial
    return [
        Claim(
            sentence="usage x price = spent",
            is_true=priced == spent and all(record.priced == record.amount for record in customer.usage),
            numbers=f"{priced} = {spent}",
        ),
        Claim(
            sentence="spent = earnings + platform fee",
            is_true=bool(spent) and spent == outcome.earned + outcome.fee,
            numbers=f"{spent} = {outcome.earned} + {outcome.fee}",
        ),
        Claim(
            sentence="granted + topped up - spent = balance",
            is_true=outcome.granted + outcome.top_up.credited - spent == customer.balance,
            numbers=f"{outcome.granted} + {outcome.top_up.credited} - {spent} = {customer.balance}",
        ),
        Claim(
            sentence="what was paid by QR code is credited once",
            is_true=outcome.top_up.deposits == 1
            and outcome.top_up.credited == outcome.top_up.asked
            and outcome.top_up.signature == outcome.top_up.deposit_signature,
            numbers=f"{outcome.top_up.credited} of {outcome.top_up.asked} by {outcome.top_up.deposits} payment",
        ),
        Claim(
            sentence="the trial balance is zero",
            is_true=trial.balanced
            and not outcome.ledger_sum
            and not trial.drift
            and trial.debits == trial.credits,
            numbers=f"debits {trial.debits}, credits {trial.credits}, sum {outcome.ledger_sum}, drift {trial.drift}",
        ),
    ]


def _claims_about_payouts(outcome: Outcome) -> Sequence[Claim]:
    paid, payouts = outcome.paid, outcome.paid.payouts
    earned = {provider.provider_id: provider.earned for provider in outcome.providers}
    left = {
        one.provider_id: Money(one.paid_micro_usdc * NANO_USD_PER_MICRO_USDC) + one.reserved + one.payable
        for one in payouts
    }
    return [
        Claim(
            sentence="every provider has on the chain what the ledger says it was paid",
            is_true=len(payouts) == len(outcome.providers)
            and all(0 < one.paid_micro_usdc == one.on_chain_micro_usdc for one in payouts)
            and sum(one.paid_micro_usdc for one in payouts) == paid.total_micro_usdc,
            numbers=", ".join(
                f"{one.slug}: {one.on_chain_micro_usdc} = {one.paid_micro_usdc} micro-USDC" for one in payouts
            ),
        ),
        Claim(
            sentence="earned = paid + kept back + carried over",
            is_true=earned == left and not any(one.in_payout for one in payouts),
            numbers=", ".join(
                f"{one.slug}: {earned[one.provider_id]} = {left[one.provider_id]}" for one in payouts
            ),
        ),
        Claim(
            sentence="chain and ledger agree",
            is_true=not paid.differences and paid.reconciled_transactions > 0,
            numbers="; ".join(paid.differences)
            or f"{paid.reconciled_transactions} transactions of the treasury",
        ),
    ]


def _seen(outcome: Outcome) -> set[Line]:
    """What the customer saw of each request."""
    return {
        *(
            (p.request_id, p.provider, p.tokens_prompt, p.tokens_completion, 0, p.cost)
            for p in outcome.purchases
        ),
        *((p.request_id, p.provider, 0, 0, p.pixel_steps, p.cost) for p in outcome.pictures),
    }


def _billed(books: CustomerBooks, stream: LongStream) -> set[Line]:
    """What each request was billed, but the long stream, which has parts."""
    return {
        (r.request_id, r.provider, r.tokens_prompt, r.tokens_completion, r.pixel_steps, r.amount)
        for r in books.usage
        if r.request_id != stream.request_id
    }
