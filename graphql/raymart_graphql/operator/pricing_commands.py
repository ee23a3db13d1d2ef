"""`raymart price`: rate cards, caps and fees, and what a request could cost.

Commands that change something run as the operator, who has the database's password. `--actor` says who it was; why it
was goes into the row.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.rating import UnitRater, lines_of
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_core.money import Money
from raymart_core.ports import Quantities
from raymart_core.units import Unit
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import database_settings, with_database
from raymart_marketplace.accounts.service import user_by_email
from raymart_marketplace.catalog.models import SERVED, Model, ModelRevision
from raymart_marketplace.catalog.service import model_by_slug
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.pricing import service
from raymart_marketplace.pricing.book import database_now, load_book, load_terms
from raymart_marketplace.pricing.effective import Sold, price_offer
from raymart_marketplace.pricing.models import FeeSchedule, Price, PriceCap, RateCard
from raymart_marketplace.supply.models import Offer, OfferState, Provider, ProviderState
from raymart_marketplace.supply.service import provider_by_slug

LISTING_MAX = 1_000
"""Rows that a listing prints."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Slug of the only model; none for all.")]
ActorOption = Annotated[str | None, typer.Option("--actor", help="E-mail address of who decided it.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with it.")]
FromOption = Annotated[
    datetime | None, typer.Option("--from", help="When it takes effect, in UTC; none for now.")
]
UntilOption = Annotated[datetime | None, typer.Option("--until", help="When it ends, in UTC; none for open.")]
PricesOption = Annotated[
    list[str], typer.Option("--price", help="token.prompt=0.000000050: US dollars a unit; give it for each.")
]

price = typer.Typer(no_args_is_help=True)


@price.command("cards")
def cards(model: ModelOption = None, output: OutputOption = Output.TABLE) -> None:
    """List rate cards, newest first, with a line for each unit."""
    statement = (
        select(RateCard, Price, Model.slug, ModelRevision.digest)
        .join(Price, Price.rate_card_id == RateCard.id)
        .join(Model, Model.id == RateCard.model_id)
        .outerjoin(ModelRevision, ModelRevision.id == RateCard.revision_id)
        .order_by(RateCard.id.desc(), Price.unit)
        .limit(LISTING_MAX)
    )
    if model is not None:
        statement = statement.where(Model.slug == model)

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "model": slug,
                    "revision": digest,
                    "version": card.version,
                    "state": card.state.value,
                    "effective_from": card.effective_from,
                    "effective_to": card.effective_to,
                    "unit": line.unit.value,
                    "nano_usd": line.nano_usd,
                }
                for card, line, slug, digest in await session.execute(statement)
            ]

    columns = (
        "model", "revision", "version", "state", "effective_from", "effective_to", "unit", "nano_usd",
    )  # fmt: skip
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


@price.command("publish")
def publish(
    model: Annotated[str, typer.Argument(help="Slug of the model.")],
    *,
    price: PricesOption,
    revision: Annotated[str | None, typer.Option(help="Digest of the only revision; none for all.")] = None,
    starts: FromOption = None,
    ends: UntilOption = None,
    actor: ActorOption = None,
) -> None:
    """Publish the next version of a model's prices; the one before ends when it takes effect."""
    prices = dict(_price(text) for text in price)
    if len(prices) != len(price):
        raise InvalidRequest("a unit is named twice; give it one price")

    async def make(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            card = await service.publish_rate_card(
                session,
                model_id=(await model_by_slug(session, model)).id,
                revision_id=await _revision_id(session, revision),
                prices=prices,
                effective_from=_utc(starts),
                effective_to=_utc(ends),
                actor_id=await _actor_id(session, actor),
            )
            return f"{model}: version {card.version} from {card.effective_from:%Y-%m-%d %H:%M:%S} UTC"

    typer.echo(with_database(database_settings().database_url, make))


@price.command("caps")
def caps(output: OutputOption = Output.TABLE) -> None:
    """List price caps, newest first, ended ones too."""
    statement = (
        select(PriceCap, Model.slug)
        .outerjoin(Model, Model.id == PriceCap.model_id)
        .order_by(PriceCap.id.desc())
        .limit(LISTING_MAX)
    )

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "unit": cap.unit.value,
                    "model": slug,
                    "max_nano_usd": cap.max_nano_usd,
                    "effective_from": cap.effective_from,
                    "effective_to": cap.effective_to,
                    "reason": cap.reason,
                }
                for cap, slug in await session.execute(statement)
            ]

    columns = ("unit", "model", "max_nano_usd", "effective_from", "effective_to", "reason")
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


@price.command("cap")
def cap(
    unit: Annotated[Unit, typer.Argument(help="What is capped.")],
    *,
    reason: ReasonOption,
    limit: Annotated[
        str | None, typer.Option("--max", help="US dollars a unit; none ends the cap there is.")
    ] = None,
    model: ModelOption = None,
    starts: FromOption = None,
    ends: UntilOption = None,
    actor: ActorOption = None,
) -> None:
    """Cap what may be asked for a unit, or end its cap."""

    async def make(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            made = await service.set_price_cap(
                session,
                unit=unit,
                max_nano_usd=None if limit is None else _nano_usd(limit),
                model_id=(await model_by_slug(session, model)).id if model else None,
                effective_from=_utc(starts),
                effective_to=_utc(ends),
                reason=reason,
                actor_id=await _actor_id(session, actor),
            )
        what = f"{unit.value} of {model or 'every model'}"
        return f"{what}: no cap" if made is None else f"{what}: at most {Money(made.max_nano_usd)}"

    typer.echo(with_database(database_settings().database_url, make))


@price.command("fees")
def fees(output: OutputOption = Output.TABLE) -> None:
    """List fee schedules, newest first, ended ones too."""
    statement = (
        select(FeeSchedule, Provider.slug, Model.slug)
        .outerjoin(Provider, Provider.id == FeeSchedule.provider_id)
        .outerjoin(Model, Model.id == FeeSchedule.model_id)
        .order_by(FeeSchedule.version.desc())
        .limit(LISTING_MAX)
    )

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "version": fee.version,
                    "basis_points": fee.basis_points,
                    "provider": provider_slug,
                    "model": model_slug,
                    "effective_from": fee.effective_from,
                    "effective_to": fee.effective_to,
                    "reason": fee.reason,
                }
                for fee, provider_slug, model_slug in await session.execute(statement)
            ]

    columns = ("version", "basis_points", "provider", "model", "effective_from", "effective_to", "reason")
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


@price.command("fee")
def fee(
    basis_points: Annotated[int, typer.Argument(help="The platform's share: 1000 is 10 %.")],
    *,
    reason: ReasonOption,
    provider: Annotated[str | None, typer.Option(help="Slug of the only provider; none for all.")] = None,
    model: ModelOption = None,
    starts: FromOption = None,
    ends: UntilOption = None,
    actor: ActorOption = None,
) -> None:
    """Set the platform's share of what customers pay."""

    async def make(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            made = await service.set_fee_schedule(
                session,
                basis_points=basis_points,
                provider_id=await _provider_id(session, provider),
                model_id=(await model_by_slug(session, model)).id if model else None,
                effective_from=_utc(starts),
                effective_to=_utc(ends),
                reason=reason,
                actor_id=await _actor_id(session, actor),
            )
            return f"fee schedule {made.version}: {made.basis_points} basis points"

    typer.echo(with_database(database_settings().database_url, make))


@price.command("quote")
def quote(
    model: Annotated[str, typer.Argument(help="Slug of the model.")],
    tokens_prompt: Annotated[
        int, typer.Option(min=0, max=10_000_000, help="Tokens of the prompt at most.")
    ] = 0,
    tokens_completion: Annotated[
        int, typer.Option(min=0, max=10_000_000, help="Generated tokens at most.")
    ] = 0,
    pixel_steps: Annotated[
        int, typer.Option(min=0, max=10_000_000_000, help="Of pictures: width x height x steps x count.")
    ] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the most that a request can cost at each open offer at this moment, with a line for each unit."""
    bounds = Quantities(
        token_prompt=tokens_prompt,
        token_completion=tokens_completion,
        image_megapixel_step=pixel_steps,
        request=1,
    )

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return await _quotes(session, model, bounds)

    columns = (
        "provider", "offer", "amount_nano_usd", "unit", "quantity", "price_nano_usd", "line_nano_usd", "reason",
    )  # fmt: skip
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


async def _quotes(session: AsyncSession, slug: str, bounds: Quantities) -> Sequence[dict[str, object]]:
    model = await model_by_slug(session, slug)
    # A quote is what the customer pays; the fee is a part of it.
    book, now = await load_book(session, fee_basis_points=0), await database_now(session)
    found = (
        await session.execute(
            select(Offer, Provider)
            .join(Provider, Provider.id == Offer.provider_id)
            .join(ModelRevision, ModelRevision.id == Offer.revision_id)
            .where(
                ModelRevision.model_id == model.id,
                ModelRevision.state.in_(SERVED),
                Offer.state == OfferState.OPEN,
                Provider.state == ProviderState.ACTIVE,
            )
            .order_by(Offer.id)
            .limit(LISTING_MAX)
        )
    ).all()
    terms = await load_terms(session, [offer.id for offer, _ in found])
    rows: list[dict[str, object]] = []
    for offer, provider in found:
        sold = Sold(
            model_id=model.id,
            revision_id=offer.revision_id,
            provider_id=provider.id,
            modality=model.modality,
        )
        effective = price_offer(terms[offer.id], sold, book, now)
        head: dict[str, object] = {"provider": provider.slug, "offer": show(Prefix.OFFER, offer.id)}
        if effective.prices is None:
            rows.append(head | dict.fromkeys(_LINE) | {"amount_nano_usd": None, "reason": effective.reason})
            continue
        amount = UnitRater().quote(bounds, effective.prices).amount
        for line in lines_of(bounds, effective.prices):
            parts = (line.unit.value, line.quantity, line.price_nano_usd, line.amount.amount)
            rows.append(
                head | dict(zip(_LINE, parts, strict=True)) | {"amount_nano_usd": amount, "reason": None}
            )
    return rows


_LINE = ("unit", "quantity", "price_nano_usd", "line_nano_usd")


def _price(text: str) -> tuple[Unit, int]:
    """Read such as token.prompt=0.000000050 into a unit and nano-USD. Raises: InvalidRequest."""
    name, _, dollars = text.partition("=")
    try:
        unit = Unit(name)
    except ValueError:
        raise InvalidRequest(f"{name!r} is no unit; use one of {', '.join(Unit)}") from None
    return unit, _nano_usd(dollars)


def _nano_usd(text: str) -> int:
    try:
        return Money.parse(text).amount
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=time.tzinfo or UTC)


async def _actor_id(session: AsyncSession, email: str | None) -> UUID | None:
    if email is None:
        return None
    user = await user_by_email(session, email)
    if user is None:
        raise NotFound(f"nobody has the address {email!r}")
    return user.id


async def _provider_id(session: AsyncSession, slug: str | None) -> UUID | None:
    if slug is None:
        return None
    provider = await provider_by_slug(session, slug)
    if provider is None:
        raise NotFound(f"there is no provider {slug!r}; `raymart provider list` shows them")
    return provider.id


async def _revision_id(session: AsyncSession, digest: str | None) -> UUID | None:
    if digest is None:
        return None
    revision_id = await session.scalar(select(ModelRevision.id).where(ModelRevision.digest == digest))
    if revision_id is None:
        raise NotFound(f"there is no revision {digest!r}; `raymart model list` shows them")
    return revision_id
