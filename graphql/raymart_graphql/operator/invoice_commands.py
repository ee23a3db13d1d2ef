"""`raymart invoice`: invoices, credit notes and refunds."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing import invoices, refunds
from raymart_billing.invoices import Invoice, Readable
from raymart_billing.invoices.service import month_before
from raymart_billing.refunds import Bearer, Refund
from raymart_billing.refunds.tasks import refund_broken
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, parse, show
from raymart_core.money import Money
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.accounts.service import user_by_email
from raymart_marketplace.db.session import Sessions, session_scope

invoice = typer.Typer(no_args_is_help=True)

LISTING_MAX = 1_000
InvoiceArgument = Annotated[
    str, typer.Argument(help="Number such as RM-2026-000001, or id such as inv_0199...")
]
OrganizationOption = Annotated[str | None, typer.Option(help="Slug, or id such as org_0199...")]
ActorOption = Annotated[str | None, typer.Option(help="E-mail address of who does this; kept with it.")]
ReasonOption = Annotated[str, typer.Option(help="Why; the customer sees it.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
FileOption = Annotated[Path, typer.Option("--file", help="Where to write it.")]


@invoice.command("draft")
def draft(
    organization: Annotated[str, typer.Option(help="Slug, or id such as org_0199...")],
    month: Annotated[
        str | None, typer.Option(help="Such as 2026-10; the last one that is over if left out.")
    ] = None,
) -> None:
    """Draw up a customer's invoice of a month that is over."""
    period_start = _month(month) if month else month_before(datetime.now(UTC))

    async def run(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            found = await invoices.draft_invoice(
                session, organization_id=await _organization(session, organization), period_start=period_start
            )
            return _named(found) if found else f"nothing was booked up to {period_start:%Y-%m}; no invoice"

    typer.echo(with_database(database_settings().database_url, run))


@invoice.command("finalize")
def finalize(which: InvoiceArgument, actor: ActorOption = None) -> None:
    """Number a draft and make it final."""
    settings = control_settings()

    async def run(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            found = await invoices.finalize_invoice(
                session,
                (await _invoice(session, which)).id,
                seller=invoices.seller_of(settings),
                actor_id=await _actor(session, actor),
            )
            return _named(found)

    typer.echo(with_database(settings.database_url, run))


@invoice.command("void")
def void(which: InvoiceArgument, reason: ReasonOption, actor: ActorOption = None) -> None:
    """Withdraw a customer's newest final invoice."""

    async def run(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            found = await invoices.void_invoice(
                session,
                (await _invoice(session, which)).id,
                reason=reason,
                actor_id=await _actor(session, actor),
            )
            return _named(found)

    typer.echo(with_database(database_settings().database_url, run))


@invoice.command("list")
def list_invoices(organization: OrganizationOption = None, output: OutputOption = Output.TABLE) -> None:
    """List invoices, newest first."""

    async def run(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            statement = (
                select(Invoice, Organization.slug)
                .join(Organization, Organization.id == Invoice.organization_id)
                .order_by(Invoice.id.desc())
                .limit(LISTING_MAX)
            )
            if organization is not None:
                owner = await _organization(session, organization)
                statement = statement.where(Invoice.organization_id == owner)
            return [
                {
                    "id": show(Prefix.INVOICE, found.id),
                    "number": found.number,
                    "organization": slug,
                    "month": f"{found.period_start:%Y-%m}",
                    "state": found.state.value,
                    "charged_usd": _digits(found.charged_nano_usd),
                    "opening_usd": _digits(found.opening_nano_usd),
                    "closing_usd": _digits(found.closing_nano_usd),
                }
                for found, slug in await session.execute(statement)
            ]

    columns = (
        "id", "number", "organization", "month", "state", "charged_usd", "opening_usd", "closing_usd",
    )  # fmt: skip
    print_rows(with_database(database_settings().database_url, run), columns=columns, output=output)


@invoice.command("show")
def show_lines(which: InvoiceArgument, output: OutputOption = Output.TABLE) -> None:
    """List the lines of an invoice."""

    async def run(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            lines = await invoices.invoice_lines(session, (await _invoice(session, which)).id)
            return [
                {
                    "position": line.position,
                    "kind": line.kind.value,
                    "description": line.description,
                    "count": line.transfers,
                    "quantity": line.quantity,
                    "unit": line.unit,
                    "amount_usd": _digits(line.amount_nano_usd),
                }
                for line in lines
            ]

    columns = ("position", "kind", "description", "count", "quantity", "unit", "amount_usd")
    print_rows(with_database(database_settings().database_url, run), columns=columns, output=output)


@invoice.command("pdf")
def pdf(which: InvoiceArgument, file: FileOption) -> None:
    """Write an invoice as PDF."""
    readable = _read(which)
    file.write_bytes(invoices.render_pdf(readable.sheet, fonts_dir=control_settings().invoice_fonts_dir))
    typer.echo(f"{readable.name} is in {file}")


@invoice.command("csv")
def csv(which: InvoiceArgument, file: FileOption) -> None:
    """Write the lines of an invoice as CSV, every amount with all its digits."""
    readable = _read(which)
    assert readable.csv is not None, "invoices have lines"
    file.write_bytes(readable.csv)
    typer.echo(f"{readable.name} is in {file}")


@invoice.command("credit-note")
def credit_note(
    which: InvoiceArgument,
    line: Annotated[list[str], typer.Option(help='What is corrected and its dollars: "Bad images=1.25".')],
    reason: ReasonOption,
    actor: ActorOption = None,
) -> None:
    """Correct a final invoice in the customer's favour: issue a credit note and pay it into the balance."""
    corrections = [_correction(text) for text in line]

    async def run(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            actor_id = await _actor(session, actor)
            note = await invoices.create_credit_note(
                session,
                invoice_id=(await _invoice(session, which)).id,
                corrections=corrections,
                reason=reason,
                actor_id=actor_id,
            )
            note = await invoices.issue_credit_note(session, note.id, actor_id=actor_id)
            return f"{note.number} issued: {_digits(note.amount_nano_usd)} USD paid into the balance"

    typer.echo(with_database(database_settings().database_url, run))


@invoice.command("refunds")
def list_refunds(output: OutputOption = Output.TABLE) -> None:
    """List refunds and who bore them, newest first."""

    async def run(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            found = await session.scalars(select(Refund).order_by(Refund.id.desc()).limit(LISTING_MAX))
            return [
                {
                    "id": show(Prefix.REFUND, each.id),
                    "kind": each.kind.value,
                    "rule": each.rule,
                    "request": show(Prefix.REQUEST, each.request_id) if each.request_id else None,
                    "amount_usd": _digits(each.amount_nano_usd),
                    "clawback_usd": _digits(each.clawback_nano_usd),
                    "fee_usd": _digits(each.fee_nano_usd),
                    "expense_usd": _digits(each.expense_nano_usd),
                    "reason": each.reason,
                    "created_at": each.created_at,
                }
                for each in found
            ]

    columns = (
        "id", "kind", "rule", "request", "amount_usd", "clawback_usd", "fee_usd", "expense_usd", "reason", "created_at",
    )  # fmt: skip
    print_rows(with_database(database_settings().database_url, run), columns=columns, output=output)


@invoice.command("refund")
def refund(
    request: Annotated[str, typer.Argument(help="Such as req_0199...")],
    reason: ReasonOption,
    *,
    amount: Annotated[str | None, typer.Option(help="Dollars; all that is left if left out.")] = None,
    bearer: Annotated[Bearer, typer.Option(help="Who bears it.")] = Bearer.PLATFORM,
    key: Annotated[str | None, typer.Option(help="The same key refunds once.")] = None,
    actor: ActorOption = None,
) -> None:
    """Give a request's charge back."""
    request_id = _parsed(Prefix.REQUEST, request)
    money = None if amount is None else _money(amount)

    async def run(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            paid = await refunds.refund_request(
                session,
                request_id=request_id,
                amount=money,
                bearer=bearer,
                reason=reason,
                key=key or new_id().hex,
                actor_id=await _actor(session, actor),
            )
            return "\n".join(
                f"{show(Prefix.REFUND, done.id)}: {_digits(done.amount_nano_usd)} USD back; the provider gave "
                f"{_digits(done.clawback_nano_usd)}, the platform {_digits(done.fee_nano_usd + done.expense_nano_usd)}"
                for done in paid
            )

    typer.echo(with_database(database_settings().database_url, run))


@invoice.command("refund-broken")
def run_rules(
    days: Annotated[int, typer.Option(min=1, max=400, help="How far to look back.")] = 7,
) -> None:
    """Refund, by the rules, what broke off and was billed; the worker does so each minute for the last 7 days."""

    async def run(sessions: Sessions) -> int:
        return await refund_broken(sessions, looked_back=timedelta(days=days))

    typer.echo(f"{with_database(database_settings().database_url, run)} requests refunded")


def _read(which: str) -> Readable:
    settings = control_settings()

    async def run(sessions: Sessions) -> Readable:
        async with session_scope(sessions) as session:
            found = await _invoice(session, which)
            readable = await invoices.readable_invoice(session, found.id, seller=invoices.seller_of(settings))
        assert readable is not None, "it was found a moment ago"
        return readable

    return with_database(settings.database_url, run)


async def _invoice(session: AsyncSession, which: str) -> Invoice:
    """By number or id. Raises: InvalidRequest, NotFound."""
    if which.startswith(f"{Prefix.INVOICE.value}_"):
        found = await session.get(Invoice, _parsed(Prefix.INVOICE, which))
    else:
        found = (await session.scalars(select(Invoice).where(Invoice.number == which))).one_or_none()
    if found is None:
        raise NotFound(f"there is no invoice {which!r}; `raymart invoice list` shows them")
    return found


async def _organization(session: AsyncSession, which: str) -> UUID:
    """By slug or id. Raises: InvalidRequest, NotFound."""
    if which.startswith(f"{Prefix.ORGANIZATION.value}_"):
        return _parsed(Prefix.ORGANIZATION, which)
    found = await session.scalar(select(Organization.id).where(Organization.slug == which))
    if found is None:
        raise NotFound(f"there is no organization {which!r}")
    return found


async def _actor(session: AsyncSession, email: str | None) -> UUID | None:
    """Who does this; None for the operator of the machine. Raises: NotFound."""
    if email is None:
        return None
    user = await user_by_email(session, email)
    if user is None:
        raise NotFound(f"no user has the address {email!r}")
    return user.id


def _named(found: Invoice) -> str:
    name = found.number or show(Prefix.INVOICE, found.id)
    return f"{name} ({found.period_start:%Y-%m}) is {found.state.value}"


def _correction(text: str) -> invoices.Correction:
    description, _, amount = text.rpartition("=")
    return invoices.Correction(description=description, amount=_money(amount))


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise InvalidRequest(f"{text!r} is no month such as 2026-10") from None


def _money(text: str) -> Money:
    try:
        return Money.parse(text)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _parsed(prefix: Prefix, text: str) -> UUID:
    try:
        return parse(prefix, text)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _digits(nano_usd: int) -> str:
    return f"{Money(nano_usd).decimal():f}"
