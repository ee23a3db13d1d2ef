"""`raymart payouts switch, policy, trust`: the kill switch, the rules, and how far providers are trusted."""

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.holdback import Band
from raymart_billing.payouts.policy import RulesChange, present_policy, rules_of, set_policy
from raymart_billing.payouts.policy_models import PayoutPolicy, SwitchSource
from raymart_billing.payouts.switch import pause, resume, standing_stops
from raymart_billing.payouts.trust import set_trust
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.money import Money
from raymart_graphql.operator.arguments import actor_id
from raymart_graphql.operator.batch_commands import (
    ActorOption,
    OutputOption,
    ReasonOption,
    in_session,
    parse_usdc,
)
from raymart_graphql.operator.listing import Output, print_rows
from raymart_marketplace.supply.models import Provider

SomeReason = Annotated[str | None, typer.Option(help="Why; kept for good.")]
SomeActor = Annotated[str | None, typer.Option(help="E-mail of the administrator who decides this.")]


def add_rules(payouts: typer.Typer) -> None:
    """Make the commands known."""
    for name, command in (("switch", switch), ("policy", policy), ("trust", trust)):
        payouts.command(name)(command)


def switch(
    change: Annotated[
        str | None, typer.Argument(help="`pause` or `resume`; without it, show what stops payouts.")
    ] = None,
    reason: SomeReason = None,
    actor: SomeActor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop all payouts or let them go on, or show what stops them."""
    if change is None:
        print_rows(in_session(_stops), columns=("source", "reason", "paused_at"), output=output)
        return
    if change not in {"pause", "resume"} or reason is None or actor is None:
        raise InvalidRequest("say `switch pause` or `switch resume`, with --reason and --actor")
    why, who = reason, actor

    async def run(session: AsyncSession) -> None:
        person = await actor_id(session, who)
        act = pause if change == "pause" else resume
        await act(session, source=SwitchSource.ADMIN, reason=why, actor_id=person)

    in_session(run)
    typer.echo(
        "payouts are stopped" if change == "pause" else "payouts go on, but for what reconciliation stopped"
    )


async def _stops(session: AsyncSession) -> Sequence[dict[str, object]]:
    return [
        {"source": stop.source.value, "reason": stop.reason, "paused_at": stop.paused_at}
        for stop in await standing_stops(session)
    ]


def policy(  # noqa: PLR0917 - options of the command line, a rule each
    minimum: Annotated[str | None, typer.Option(help="The least that is paid, in USDC.")] = None,
    batch_cap: Annotated[str | None, typer.Option(help="The most that a batch pays, in USDC.")] = None,
    day_cap: Annotated[str | None, typer.Option(help="The most approved in 24 hours, in USDC.")] = None,
    four_eyes_above: Annotated[
        str | None, typer.Option(help="Above this, in USDC, two people must approve.")
    ] = None,
    epoch_hours: Annotated[int | None, typer.Option(help="How long an epoch lasts.")] = None,
    holdback: Annotated[
        str | None, typer.Option(help='JSON: [{"trust_min": 0, "basis_points": 1000, "days": 7}].')
    ] = None,
    reason: SomeReason = None,
    actor: SomeActor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the rules of payouts, or change those that are given."""
    change = RulesChange(
        minimum=_amount(minimum),
        batch_cap=_amount(batch_cap),
        day_cap=_amount(day_cap),
        four_eyes_above=_amount(four_eyes_above),
        epoch_hours=epoch_hours,
        bands=None if holdback is None else _bands(holdback),
    )
    if change == RulesChange():
        print_rows(in_session(_rules), columns=("rule", "value"), output=output)
        return
    if reason is None:
        raise InvalidRequest("a change of the rules needs a --reason")
    why = reason

    async def run(session: AsyncSession) -> PayoutPolicy:
        person = None if actor is None else await actor_id(session, actor)
        present = await present_policy(session)
        return await set_policy(session, change, version=present.version, reason=why, actor_id=person)

    typer.echo(f"version {in_session(run).version} of the rules holds")


async def _rules(session: AsyncSession) -> Sequence[dict[str, object]]:
    present = await present_policy(session)
    rules = rules_of(present)
    facts: list[tuple[str, object]] = [
        ("version", present.version),
        ("minimum", rules.minimum),
        ("batch_cap", rules.batch_cap),
        ("day_cap", rules.day_cap),
        ("four_eyes_above", rules.four_eyes_above),
        ("epoch_hours", rules.epoch_hours),
        ("reason", present.reason),
    ]
    facts += [
        (f"holdback from trust {band.trust_min}", f"{band.basis_points / 100:g} % for {band.days} days")
        for band in rules.bands
    ]
    return [{"rule": rule, "value": value} for rule, value in facts]


def trust(
    provider: Annotated[str, typer.Argument(help="Slug of the provider.")],
    score: Annotated[int, typer.Argument(help="0 to 100; 50 is neutral.")],
    reason: ReasonOption,
    actor: ActorOption,
) -> None:
    """Say how far a provider is trusted, from the next epoch on."""

    async def run(session: AsyncSession) -> None:
        provider_id = await session.scalar(select(Provider.id).where(Provider.slug == provider))
        if provider_id is None:
            raise NotFound(f"there is no provider {provider!r}")
        person = await actor_id(session, actor)
        await set_trust(session, provider_id, score=score, reason=reason, actor_id=person)

    in_session(run)
    typer.echo(f"{provider} is trusted by {score} of 100")


def _amount(text: str | None) -> Money | None:
    return None if text is None else parse_usdc(text)


def _bands(text: str) -> tuple[Band, ...]:
    """Raises: InvalidRequest."""
    try:
        return tuple(Band(**band) for band in json.loads(text))
    except (TypeError, ValueError):
        raise InvalidRequest(
            f"{text[:100]!r} is no list of bands; give trust_min, basis_points and days of each"
        ) from None
