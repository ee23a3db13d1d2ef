"""`raymart payouts list, show, plan, approve, hold, release, split, cancel`: batches of payouts."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar, cast
from uuid import UUID

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.approving import approvals_that_count, approve_batch, part_limits
from raymart_billing.payouts.batches import hold_batch, release_batch, split_batch
from raymart_billing.payouts.cancelling import cancel_batch, give_back
from raymart_billing.payouts.facts import facts_of
from raymart_billing.payouts.models import (
    BatchState,
    Epoch,
    PayoutAttempt,
    PayoutBatch,
    PayoutItem,
    PayoutPart,
)
from raymart_billing.payouts.outliers import outliers_of
from raymart_billing.payouts.policy import present_rules
from raymart_billing.payouts.running import Planned, mint_of, run_now
from raymart_billing.solana.addresses import explorer_url
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.money import Asset, Money
from raymart_graphql.operator.arguments import actor_id
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import Provider

Result = TypeVar("Result")
LISTING_MAX = 1_000
"""Rows that a listing prints."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept for good.")]
ActorOption = Annotated[str, typer.Option(help="E-mail of the administrator who decides this.")]
BatchArgument = Annotated[int, typer.Argument(help="Number of the batch.")]


def add_batches(payouts: typer.Typer) -> None:
    """Make the commands known."""
    for name, command in (
        ("list", list_batches),
        ("show", show_batch),
        ("plan", plan),
        ("approve", approve),
        ("hold", hold),
        ("release", release),
        ("split", split),
        ("cancel", cancel),
    ):
        payouts.command(name)(command)


def list_batches(
    state: Annotated[BatchState | None, typer.Option(help="Only in this state.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List batches, newest first."""

    async def read(session: AsyncSession) -> Sequence[dict[str, object]]:
        query = select(PayoutBatch, Epoch.number).outerjoin(Epoch, Epoch.id == PayoutBatch.epoch_id)
        if state is not None:
            query = query.where(PayoutBatch.state == state)
        rows = await session.execute(query.order_by(PayoutBatch.number.desc()).limit(LISTING_MAX))
        rules = await present_rules(session)
        return [
            {
                "number": batch.number,
                "kind": batch.kind.value,
                "epoch": epoch,
                "state": batch.state.value,
                "total": usdc(batch.total_micro_usdc),
                "payees": batch.payees,
                "approvals": f"{len(await approvals_that_count(session, batch))} of"
                f" {rules.approvals_needed(usdc(batch.total_micro_usdc))}",
                "held": batch.hold_reason,
                "created_at": batch.created_at,
            }
            for batch, epoch in rows.tuples().all()
        ]

    columns = ("number", "kind", "epoch", "state", "total", "payees", "approvals", "held", "created_at")
    print_rows(in_session(read), columns=columns, output=output)


def show_batch(
    number: BatchArgument,
    transactions: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--transactions", help="How it is sent, in place of whom it pays.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show whom a batch pays with what is unusual, or the transactions that send it."""
    if transactions:
        chain_id = control_settings().solana_chain_id
        rows = in_session(lambda session: _attempts(session, number, chain_id))
        print_rows(rows, columns=_SENDING, output=output)
        return
    print_rows(in_session(lambda session: _payees(session, number)), columns=_PAYEES, output=output)


_SENDING = ("part", "state", "total", "attempt", "signature", "outcome", "link")
_PAYEES = ("position", "payee", "amount", "state", "wallet", "outliers")


def plan(
    ends_epoch: Annotated[bool, typer.Option("--end-epoch", help="End the running epoch now.")] = False,  # noqa: FBT002 - a flag of the command line
    actor: Annotated[
        str | None, typer.Option(help="E-mail of who plans this, and so may not approve it.")
    ] = None,
) -> None:
    """Plan payouts now: of the epoch that ends, or those who could not be paid for the last one."""
    mint = mint_of(control_settings())

    async def run(sessions: Sessions) -> Planned:
        async with session_scope(sessions) as session:
            planner = None if actor is None else await actor_id(session, actor)
        return await run_now(sessions, mint=mint, ends_epoch=ends_epoch, created_by=planner)

    done = with_database(database_settings().database_url, run)
    unpaid = ", ".join(f"{count} {reason.value}" for reason, count in sorted(done.plan.unpaid.items()))
    typer.echo(
        f"epoch {done.epoch.number}: {done.plan.paid} payees in {len(done.plan.batches)} batches"
        + (f"; not paid: {unpaid}" if unpaid else "")
    )


def approve(
    number: BatchArgument,
    total: Annotated[str, typer.Option(help="What it pays in USDC, as you have seen it.")],
    actor: ActorOption,
) -> None:
    """Approve a batch; with enough people it is sent."""
    limits = part_limits(control_settings())

    async def run(session: AsyncSession) -> PayoutBatch:
        person = await actor_id(session, actor)
        batch_id = await numbered(session, number)
        return await approve_batch(session, batch_id, user_id=person, total=parse_usdc(total), limits=limits)

    typer.echo(f"batch {number} is {in_session(run).state.value}")


def hold(number: BatchArgument, reason: ReasonOption, actor: ActorOption) -> None:
    """Stop a batch: nothing more of it is signed."""

    async def run(session: AsyncSession) -> PayoutBatch:
        person = await actor_id(session, actor)
        return await hold_batch(session, await numbered(session, number), reason=reason, actor_id=person)

    typer.echo(f"batch {number} is {in_session(run).state.value}")


def release(number: BatchArgument, actor: ActorOption) -> None:
    """Let a held batch go on where it was."""

    async def run(session: AsyncSession) -> PayoutBatch:
        person = await actor_id(session, actor)
        return await release_batch(session, await numbered(session, number), actor_id=person)

    typer.echo(f"batch {number} is {in_session(run).state.value}")


def split(
    number: BatchArgument,
    positions: Annotated[list[int], typer.Argument(help="Of the payees that go into a batch of their own.")],
    reason: ReasonOption,
    actor: ActorOption,
) -> None:
    """Move payees of a batch into a new one, which is held."""

    async def run(session: AsyncSession) -> PayoutBatch:
        person, batch_id = await actor_id(session, actor), await numbered(session, number)
        items = await session.scalars(
            select(PayoutItem.id).where(PayoutItem.batch_id == batch_id, PayoutItem.position.in_(positions))
        )
        found = items.all()
        if len(found) < len(set(positions)):
            raise InvalidRequest(f"batch {number} has no payee at some of {positions}; see `payouts show`")
        return await split_batch(session, batch_id, found, reason=reason, actor_id=person)

    new = in_session(run)
    typer.echo(f"batch {new.number} is held with {new.payees} payees and {usdc(new.total_micro_usdc)}")


def cancel(number: BatchArgument, reason: ReasonOption, actor: ActorOption) -> None:
    """Give up a batch of which nothing was signed; its money goes back to the payees' balances."""

    async def run(sessions: Sessions) -> PayoutBatch:
        async with session_scope(sessions) as session:
            person, batch_id = await actor_id(session, actor), await numbered(session, number)
            await cancel_batch(session, batch_id, reason=reason, actor_id=person)
        return await give_back(sessions, batch_id)

    typer.echo(f"batch {number} is {with_database(database_settings().database_url, run).state.value}")


async def numbered(session: AsyncSession, number: int) -> UUID:
    """The batch's id. Raises: NotFound."""
    batch_id = await session.scalar(select(PayoutBatch.id).where(PayoutBatch.number == number))
    if batch_id is None:
        raise NotFound(f"there is no payout batch {number}")
    return batch_id


def usdc(micro_usdc: int) -> Money:
    """A column of micro-USDC."""
    return Money(micro_usdc, Asset.USDC)


def parse_usdc(text: str) -> Money:
    """An amount as people write it. Raises: InvalidRequest."""
    try:
        return Money.parse(text, Asset.USDC)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def in_session(work: Callable[[AsyncSession], Awaitable[Result]]) -> Result:
    """Run `work` in one transaction."""

    async def run(sessions: Sessions) -> Result:
        async with session_scope(sessions) as session:
            return await work(session)

    return with_database(database_settings().database_url, run)


async def _payees(session: AsyncSession, number: int) -> Sequence[dict[str, object]]:
    query = (
        select(PayoutItem, Provider.slug)
        .outerjoin(Provider, Provider.id == PayoutItem.provider_id)
        .where(PayoutItem.batch_id == await numbered(session, number))
        .order_by(PayoutItem.position)
        .limit(LISTING_MAX)
    )
    rows = (await session.execute(query)).tuples().all()
    facts = await facts_of(session, [item.id for item, _ in rows if item.provider_id is not None])
    return [
        {
            "position": item.position,
            "payee": slug or f"deposit {item.deposit_id}",
            "amount": usdc(item.amount_micro_usdc),
            "state": item.state.value,
            "wallet": item.wallet,
            "outliers": "; ".join(found.text for found in outliers_of(facts[item.id])) or None
            if item.id in facts
            else None,
        }
        for item, slug in rows
    ]


async def _attempts(session: AsyncSession, number: int, chain_id: str) -> Sequence[dict[str, object]]:
    query = (
        select(PayoutPart, PayoutAttempt)
        .outerjoin(PayoutAttempt, PayoutAttempt.part_id == PayoutPart.id)
        .where(PayoutPart.batch_id == await numbered(session, number))
        .order_by(PayoutPart.position, PayoutAttempt.number)
        .limit(LISTING_MAX)
    )
    rows: list[dict[str, object]] = []
    for part, joined in (await session.execute(query)).all():
        # An outer join, which its type does not tell.
        attempt = cast("PayoutAttempt | None", joined)
        signature = part.signature if attempt is None else attempt.signature
        rows.append(
            {
                "part": part.position,
                "state": part.state.value,
                "total": usdc(part.total_micro_usdc),
                "attempt": None if attempt is None else attempt.number,
                "signature": signature,
                "outcome": None if attempt is None else attempt.error or attempt.state.value,
                "link": None if signature is None else explorer_url(signature, chain_id),
            }
        )
    return rows
