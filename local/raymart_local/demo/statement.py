"""The demo's statement: a page for people, and `report.json` for programs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from raymart_core.money import ZERO, Money
from raymart_local.demo.books import MEGA, ProviderBooks, Usage
from raymart_local.demo.claims import Claim, Outcome
from raymart_local.demo.outage import Outage


def print_statement(outcome: Outcome, claims: Sequence[Claim], *, console: Console) -> None:
    """Print usage by provider, the balances and every claim with its numbers."""
    console.print(_usage_table(outcome))
    console.print(_money_table(outcome))
    console.print(_payout_table(outcome))
    for claim in claims:
        mark = "[green]yes[/]" if claim.is_true else "[bold red]NO [/]"
        console.print(f"  {mark}  {claim.sentence}: {claim.numbers}", highlight=False, soft_wrap=True)


def report(outcome: Outcome, claims: Sequence[Claim], *, seconds: float) -> Mapping[str, object]:
    """The contract's fields of the parts that exist. Amounts in nano-USD and micro-USDC."""
    paid = {payout.provider_id: payout for payout in outcome.paid.payouts}
    return {
        "ok": all(claim.is_true for claim in claims),
        "seconds": round(seconds, 1),
        "requests": len(outcome.purchases) + len(outcome.pictures) + 1,
        "providers": [
            {
                "id": provider.provider_id,
                "requests": len(_usage_of(outcome, provider)),
                "earned_nano_usd": provider.earned.amount,
                "paid_micro_usdc": paid[provider.provider_id].paid_micro_usdc,
                "payout_signature": paid[provider.provider_id].signature,
            }
            for provider in outcome.providers
        ],
        "customer": {
            "topped_up_nano_usd": (outcome.granted + outcome.top_up.credited).amount,
            "spent_nano_usd": outcome.customer.spent.amount,
            "balance_nano_usd": outcome.customer.balance.amount,
        },
        "platform_fee_nano_usd": outcome.fee.amount,
        "image": _image(outcome),
        "failover": {
            "happened": bool(outcome.outage.stream.resumed_at),
            "stream_complete": outcome.outage.stream.is_whole,
            "billed_once": outcome.is_stream_billed_once,
        },
        "outage": _outage(outcome.outage),
        "ledger": {
            "sum": outcome.ledger_sum.amount,
            "trial_balance_ok": outcome.trial.balanced,
        },
        "claims": {claim.sentence: claim.is_true for claim in claims},
    }


def _image(outcome: Outcome) -> Mapping[str, object] | None:
    """The first picture; None when none was made."""
    if not outcome.pictures:
        return None
    width, height = outcome.pictures[0].size
    return {"path": str(outcome.saved), "width": width, "height": height}


def _outage(outage: Outage) -> Mapping[str, object]:
    """The machine that was killed, and what customers noticed."""
    return {
        "node": outage.node,
        "provider": outage.provider,
        "processes_killed": outage.processes,
        "requests_before": outage.before.total(),
        "requests_after": outage.after.total(),
        "requests_failed": len(outage.failed),
        "longest_request_s": round(outage.longest_s, 2),
        "back_after_s": None if outage.back_after_s is None else round(outage.back_after_s, 1),
    }


def write_report(path: Path, document: Mapping[str, object]) -> None:
    """Write `document` to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def _usage_table(outcome: Outcome) -> Table:
    table = Table(title="Usage", title_justify="left", box=None, pad_edge=False, show_footer=True)
    table.add_column("provider", footer="together")
    rows = [(provider, _usage_of(outcome, provider)) for provider in outcome.providers]
    records = [record for _, used in rows for record in used]
    for name, footer in (
        ("requests", str(len(records))),
        ("prompt", str(sum(record.tokens_prompt for record in records))),
        ("completion", str(sum(record.tokens_completion for record in records))),
        ("Mpx-steps", _megapixel_steps(records)),
        ("USD/million", ""),
        ("USD", _dollars(sum((record.amount for record in records), ZERO))),
    ):
        table.add_column(name, footer=footer, justify="right")
    for provider, used in rows:
        table.add_row(
            provider.name,
            str(len(used)),
            str(sum(record.tokens_prompt for record in used)),
            str(sum(record.tokens_completion for record in used)),
            _megapixel_steps(used),
            _prices(used),
            _dollars(sum((record.amount for record in used), ZERO)),
        )
    return table


def _money_table(outcome: Outcome) -> Table:
    table = Table("Money", "USD", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    table.add_row("granted to the customer", _dollars(outcome.granted))
    table.add_row("paid in USDC by QR code", _dollars(outcome.top_up.credited))
    table.add_row("spent", _dollars(outcome.customer.spent))
    for provider in outcome.providers:
        table.add_row(f"  earned by {provider.name}", _dollars(provider.earned))
    table.add_row("  platform fee", _dollars(outcome.fee))
    table.add_row("the customer's balance", _dollars(outcome.customer.balance))
    table.add_row("trial balance", _dollars(outcome.ledger_sum))
    return table


def _payout_table(outcome: Outcome) -> Table:
    paid = outcome.paid
    table = Table(
        title=f"Payouts: batch {paid.batch}, final {paid.seconds:.0f} s after its approval",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name, justify in (("provider", "left"), ("micro-USDC", "right"), ("on the chain", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # a literal of rich's own
    # Signatures are there to be copied: never cut.
    table.add_column("signature", overflow="fold")
    for one in paid.payouts:
        table.add_row(one.slug, str(one.paid_micro_usdc), str(one.on_chain_micro_usdc), one.signature)
    return table


def _usage_of(outcome: Outcome, provider: ProviderBooks) -> Sequence[Usage]:
    return [record for record in outcome.customer.usage if record.provider_id == provider.provider_id]


def _prices(used: Sequence[Usage]) -> str:
    """Prompt and completion prices per million tokens; there is one pair unless the provider changed its asks."""
    texts = [record for record in used if not record.pixel_steps]
    pairs = sorted({(record.price_prompt.amount, record.price_completion.amount) for record in texts})
    return ", ".join(f"{_per_million(prompt)} / {_per_million(completion)}" for prompt, completion in pairs)


def _megapixel_steps(used: Sequence[Usage]) -> str:
    return f"{sum(record.pixel_steps for record in used) / MEGA:.3f}"


def _per_million(price_nano_usd: int) -> str:
    return f"{(Money(price_nano_usd) * 1_000_000).decimal().normalize():f}"


def _dollars(amount: Money) -> str:
    return f"{amount.decimal():.9f}"
