"""`raymart deposit`: deposits, refunds, disputes, blocks, corrections and grants."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing import deposits
from raymart_billing.credits import CreditGrant, adjust_balance, read_parts
from raymart_billing.deposits import (
    CardRail,
    Deposit,
    DepositRefund,
    DepositState,
    Dispute,
    EventState,
    StripeEvent,
)
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix, parse, show
from raymart_core.money import Money
from raymart_graphql.operator.arguments import actor_id, dollars, organization_id
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.session import Sessions, session_scope

Result = TypeVar("Result")
LISTING_MAX = 1_000
"""Rows that a listing prints."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
CustomerOption = Annotated[str, typer.Option(help="Slug or id of the customer.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept for good.")]
ActorOption = Annotated[str, typer.Option(help="E-mail of the administrator who decides this.")]
KeyOption = Annotated[str, typer.Option(help="The same key has one effect, however often it is sent.")]

deposit = typer.Typer(no_args_is_help=True)


@deposit.command("list")
def deposit_list(
    customer: Annotated[str | None, typer.Option(help="Only of this customer: slug or id.")] = None,
    state: Annotated[DepositState | None, typer.Option(help="Only in this state.")] = None,
    held: Annotated[bool, typer.Option("--held", help="Only payments held for review.")] = False,  # noqa: FBT002 - a flag of the command line
    output: OutputOption = Output.TABLE,
) -> None:
    """List deposits, newest first."""

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        query = select(Deposit, Organization.slug).join(
            Organization, Organization.id == Deposit.organization_id
        )
        if customer is not None:
            query = query.where(Deposit.organization_id == await organization_id(session, customer))
        if state is not None:
            query = query.where(Deposit.state == state)
        if held:
            query = query.where(Deposit.held_reason.is_not(None))
        rows = await session.execute(query.order_by(Deposit.id.desc()).limit(LISTING_MAX))
        return [_deposit_row(found, slug) for found, slug in rows]

    columns = ("id", "customer", "rail", "state", "amount", "credited", "refunded", "held", "created_at")
    print_rows(_in_session(read), columns=columns, output=output)


@deposit.command("show")
def deposit_show(
    deposit_id: Annotated[str, typer.Argument(help="Such as dep_0199...")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show all that is known of one deposit, its refunds and disputes."""
    wanted = _id(Prefix.DEPOSIT, deposit_id)

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        found = await session.get(Deposit, wanted)
        if found is None:
            raise NotFound(f"there is no deposit {deposit_id!r}")
        refunds = await session.scalars(
            select(DepositRefund).where(DepositRefund.deposit_id == wanted).order_by(DepositRefund.id)
        )
        disputes = await session.scalars(
            select(Dispute).where(Dispute.payment_id == found.payment_id).order_by(Dispute.id)
        )
        facts: list[tuple[str, object]] = [
            ("state", found.state.value),
            ("amount", Money(found.amount_nano_usd)),
            ("received", f"{found.received_amount} {found.received_currency}" if found.paid_at else None),
            ("credited", Money(found.credited_nano_usd)),
            ("refunded", Money(found.refunded_nano_usd)),
            ("fee", None if found.fee_nano_usd is None else Money(found.fee_nano_usd)),
            ("held", found.held_reason),
            ("failed", found.failed_reason),
            ("session", found.session_id),
            ("payment", found.payment_id),
            ("created_at", found.created_at),
            ("credited_at", found.credited_at),
        ]
        facts += [
            ("refund", f"{Money(each.amount_nano_usd)} {each.state.value}: {each.reason}") for each in refunds
        ]
        facts += [("dispute", f"{each.provider_id} {each.status}: {each.reason}") for each in disputes]
        return [{"what": what, "value": value} for what, value in facts]

    print_rows(_in_session(read), columns=("what", "value"), output=output)


@deposit.command("reconcile")
def deposit_reconcile(
    deposit_id: Annotated[
        str | None, typer.Argument(help="Only this one, however lately it was asked about.")
    ] = None,
) -> None:
    """Ask the card processor how deposits stand, replay its events, and let debts be paid."""

    async def run(sessions: Sessions, rail: CardRail) -> None:
        if deposit_id is not None:
            wanted = _id(Prefix.DEPOSIT, deposit_id)
            found = await deposits.check_deposit(sessions, rail.processor, rail.rules, wanted)
            typer.echo(f"{deposit_id} is {found.state.value}")
            return
        missed = await deposits.replay_events(sessions, rail.processor)
        checked = await deposits.check_deposits(sessions, rail.processor, rail.rules)
        settled = await deposits.settle_debts(sessions)
        typer.echo(
            f"{missed} missed events applied, {checked} deposits asked about, {settled} debts paid from"
        )

    _with_rail(run)


@deposit.command("refund")
def deposit_refund(
    deposit_id: Annotated[str, typer.Argument(help="Such as dep_0199...")],
    amount: Annotated[str, typer.Option(help="US dollars, such as 12.50.")],
    reason: ReasonOption,
    actor: ActorOption,
    key: KeyOption,
) -> None:
    """Pay a deposit, or a part of it, back to its card."""
    wanted, money = _id(Prefix.DEPOSIT, deposit_id), dollars(amount)

    async def run(sessions: Sessions, rail: CardRail) -> None:
        async with session_scope(sessions) as session:
            refund = await deposits.request_refund(
                session,
                deposit_id=wanted,
                amount=money,
                key=key,
                reason=reason,
                actor_id=await actor_id(session, actor),
            )
        await deposits.try_refund(sessions, rail.processor, refund.id)
        async with session_scope(sessions) as session:
            found = await session.get_one(DepositRefund, refund.id)
        typer.echo(
            f"refund of {money} {found.state.value}{f': {found.failed_reason}' if found.failed_reason else ''}"
        )

    _with_rail(run)


@deposit.command("credit-held")
def deposit_credit_held(
    deposit_id: Annotated[str, typer.Argument(help="Such as dep_0199...")],
    reason: ReasonOption,
    actor: ActorOption,
) -> None:
    """Credit a payment that was held for review, by what was received."""
    wanted = _id(Prefix.DEPOSIT, deposit_id)

    async def run(session: AsyncSession) -> Money:
        found = await deposits.credit_held(
            session, deposit_id=wanted, reason=reason, actor_id=await actor_id(session, actor)
        )
        return Money(found.credited_nano_usd)

    typer.echo(f"{_in_session(run)} credited")


@deposit.command("disputes")
def deposit_disputes(output: OutputOption = Output.TABLE) -> None:
    """List disputes, newest first."""

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        query = (
            select(Dispute, Organization.slug)
            .outerjoin(Organization, Organization.id == Dispute.organization_id)
            .order_by(Dispute.id.desc())
            .limit(LISTING_MAX)
        )
        return [
            {
                "id": show(Prefix.DISPUTE, found.id),
                "customer": slug,
                "status": found.status,
                "amount": f"{found.amount} {found.currency}",
                "from_balance": Money(found.from_balance_nano_usd),
                "owed": Money(found.from_receivable_nano_usd),
                "evidence_due_at": found.evidence_due_at,
                "held": found.held_reason,
            }
            for found, slug in await session.execute(query)
        ]

    columns = ("id", "customer", "status", "amount", "from_balance", "owed", "evidence_due_at", "held")
    print_rows(_in_session(read), columns=columns, output=output)


@deposit.command("events")
def deposit_events(
    state: Annotated[EventState, typer.Option(help="Which ones.")] = EventState.REVIEW,
    output: OutputOption = Output.TABLE,
) -> None:
    """List events of the card processor, newest first; by default those that wait for a person."""

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        query = (
            select(StripeEvent)
            .where(StripeEvent.state == state)
            .order_by(StripeEvent.received_at.desc())
            .limit(LISTING_MAX)
        )
        return [
            {
                "id": found.id,
                "type": found.type,
                "object": found.object_id,
                "state": found.state.value,
                "detail": found.detail,
                "received_at": found.received_at,
            }
            for found in await session.scalars(query)
        ]

    columns = ("id", "type", "object", "state", "detail", "received_at")
    print_rows(_in_session(read), columns=columns, output=output)


@deposit.command("resolve")
def deposit_resolve(
    event_id: Annotated[str, typer.Argument(help="Such as evt_...")], reason: ReasonOption, actor: ActorOption
) -> None:
    """Take an event out of review once it has been seen to; it moves nothing."""

    async def run(session: AsyncSession) -> None:
        await deposits.resolve_event(
            session, event_id=event_id, reason=reason, actor_id=await actor_id(session, actor)
        )

    _in_session(run)
    typer.echo(f"{event_id} resolved")


@deposit.command("block")
def deposit_block(customer: CustomerOption, reason: ReasonOption, actor: ActorOption) -> None:
    """Keep a customer from spending."""

    async def run(session: AsyncSession) -> None:
        await deposits.block_customer(
            session,
            await organization_id(session, customer),
            reason=reason,
            actor_id=await actor_id(session, actor),
        )

    _in_session(run)
    typer.echo(f"{customer} blocked")


@deposit.command("unblock")
def deposit_unblock(customer: CustomerOption, reason: ReasonOption, actor: ActorOption) -> None:
    """Let a customer spend again, whoever blocked it."""

    async def run(session: AsyncSession) -> None:
        await deposits.unblock_customer(
            session,
            await organization_id(session, customer),
            reason=reason,
            actor_id=await actor_id(session, actor),
        )

    _in_session(run)
    typer.echo(f"{customer} unblocked")


@deposit.command("adjust")
def deposit_adjust(
    customer: CustomerOption,
    amount: Annotated[str, typer.Option(help="US dollars, such as 12.50, or -12.50 to take away.")],
    reason: ReasonOption,
    actor: ActorOption,
    key: KeyOption,
) -> None:
    """Correct a customer's balance, up or down, never below what is there."""
    change = dollars(amount)

    async def run(session: AsyncSession) -> None:
        await adjust_balance(
            session,
            organization_id=await organization_id(session, customer),
            change=change,
            key=key,
            reason=reason,
            actor_id=await actor_id(session, actor),
        )

    _in_session(run)
    typer.echo(f"{customer} adjusted by {change}")


@deposit.command("grants")
def deposit_grants(customer: CustomerOption, output: OutputOption = Output.TABLE) -> None:
    """List the credit that a customer was granted, newest first, with what is left of it."""

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        owner = await organization_id(session, customer)
        parts = (await read_parts(session, owner)).parts
        query = (
            select(CreditGrant)
            .where(CreditGrant.organization_id == owner)
            .order_by(CreditGrant.id.desc())
            .limit(LISTING_MAX)
        )
        return [
            {
                "id": show(Prefix.CREDIT_GRANT, found.id),
                "amount": Money(found.amount_nano_usd),
                "left": Money(parts.left_of(found.transfer_id)),
                "source": found.source.value,
                "reason": found.reason,
                "expires_at": found.expires_at,
                "created_at": found.created_at,
            }
            for found in await session.scalars(query)
        ]

    columns = ("id", "amount", "left", "source", "reason", "expires_at", "created_at")
    print_rows(_in_session(read), columns=columns, output=output)


def _in_session(work: Callable[[AsyncSession], Awaitable[Result]]) -> Result:
    """Run `work` in one transaction."""

    async def run(sessions: Sessions) -> Result:
        async with session_scope(sessions) as session:
            return await work(session)

    return with_database(database_settings().database_url, run)


def _with_rail(work: Callable[[Sessions, CardRail], Awaitable[None]]) -> None:
    """Run `work` with the card rail of the settings. Raises: Unavailable when there is none."""
    settings = control_settings()
    rail = deposits.required(deposits.open_rail(settings))

    async def run(sessions: Sessions) -> None:
        await work(sessions, rail)

    try:
        with_database(settings.database_url, run)
    finally:
        rail.processor.close()


def _deposit_row(found: Deposit, slug: str) -> dict[str, object]:
    return {
        "id": show(Prefix.DEPOSIT, found.id),
        "customer": slug,
        "rail": found.rail.value,
        "state": found.state.value,
        "amount": Money(found.amount_nano_usd),
        "credited": Money(found.credited_nano_usd),
        "refunded": Money(found.refunded_nano_usd),
        "held": found.held_reason,
        "created_at": found.created_at,
    }


def _id(prefix: Prefix, text: str) -> UUID:
    try:
        return parse(prefix, text)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
