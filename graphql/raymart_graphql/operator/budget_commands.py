"""`raymart budget`: budgets and leases."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import select

from raymart_billing.budgets import (
    BudgetPeriodKind,
    BudgetScope,
    BudgetStanding,
    budgets_of_organization,
    remove_budget,
    set_budget,
)
from raymart_billing.holds.models import CreditLease
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import parse, show
from raymart_core.money import Money
from raymart_graphql.budget_scopes import PREFIX_OF_SCOPE, scope_of
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import database_settings, with_database
from raymart_marketplace.accounts.models import Organization, User
from raymart_marketplace.db.session import Sessions, session_scope

LISTING_MAX = 1_000
"""Rows that a listing prints."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
ActorOption = Annotated[str | None, typer.Option("--actor", help="E-mail address of who orders it.")]
ScopeArgument = Annotated[
    str, typer.Argument(help="Id of an organization, project or API key: org_, proj_, key_.")
]
PeriodArgument = Annotated[BudgetPeriodKind, typer.Argument(help="When the budget begins anew.")]

budget = typer.Typer(no_args_is_help=True)


@budget.command("list")
def budget_list(
    organization: Annotated[str, typer.Argument(help="Slug of the organization.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """List an organization's budgets, those of its projects and keys too."""

    async def read(sessions: Sessions) -> Sequence[BudgetStanding]:
        async with session_scope(sessions) as session:
            found = await session.scalar(select(Organization.id).where(Organization.slug == organization))
            if found is None:
                raise NotFound(f"there is no organization {organization!r}")
            return await budgets_of_organization(session, found)

    standings = with_database(database_settings().database_url, read)
    columns = ("scope_id", "period", "limit", "spent", "reserved", "resets_at")
    print_rows([_row(standing) for standing in standings], columns=columns, output=output)


@budget.command("set")
def budget_set(
    scope_id: ScopeArgument,
    period: PeriodArgument,
    limit: Annotated[str, typer.Argument(help="US dollars, such as 25 or 0.50.")],
    actor: ActorOption = None,
) -> None:
    """Limit what an organization, a project or a key may spend; within seconds on running gateways."""
    scope, item_id = _read_scope(scope_id)
    try:
        amount = Money.parse(limit)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None

    async def write(sessions: Sessions) -> BudgetStanding:
        async with session_scope(sessions) as session:
            return await set_budget(
                session,
                scope=scope,
                scope_id=item_id,
                period=period,
                limit=amount,
                actor_id=await _actor(sessions, actor),
            )

    standing = with_database(database_settings().database_url, write)
    typer.echo(f"{scope_id}: {period.value} budget of {standing.limit}, {standing.spent} spent")


@budget.command("remove")
def budget_remove(scope_id: ScopeArgument, period: PeriodArgument, actor: ActorOption = None) -> None:
    """Limit its spending no more, and forget what was counted."""
    scope, item_id = _read_scope(scope_id)

    async def write(sessions: Sessions) -> None:
        async with session_scope(sessions) as session:
            await remove_budget(
                session,
                scope=scope,
                scope_id=item_id,
                period=period,
                actor_id=await _actor(sessions, actor),
            )

    with_database(database_settings().database_url, write)
    typer.echo(f"{scope_id}: {period.value} budget removed")


@budget.command("leases")
def budget_leases(output: OutputOption = Output.TABLE) -> None:
    """List the open leases: what gateways may spend at this moment, oldest first."""
    statement = (
        select(CreditLease, Organization.slug)
        .outerjoin(Organization, Organization.id == CreditLease.organization_id)
        .where(CreditLease.closed_at.is_(None))
        .order_by(CreditLease.taken_at, CreditLease.id)
        .limit(LISTING_MAX)
    )

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "lease": lease.id,
                    "organization": slug,
                    "gateway": lease.gateway_id,
                    "held": Money(lease.held),
                    "charged": Money(lease.charged),
                    "single_use": lease.single_use,
                    "expires_at": lease.expires_at,
                    "recalled_at": lease.recalled_at,
                }
                for lease, slug in await session.execute(statement)
            ]

    columns = (
        "lease", "organization", "gateway", "held", "charged", "single_use", "expires_at", "recalled_at",
    )  # fmt: skip
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


def _row(standing: BudgetStanding) -> dict[str, object]:
    return {
        "scope_id": show(PREFIX_OF_SCOPE[standing.scope], standing.scope_id),
        "period": standing.period.value,
        "limit": standing.limit,
        "spent": standing.spent,
        "reserved": standing.reserved,
        "resets_at": standing.resets_at,
    }


def _read_scope(scope_id: str) -> tuple[BudgetScope, UUID]:
    scope = scope_of(scope_id)
    try:
        return scope, parse(PREFIX_OF_SCOPE[scope], scope_id)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


async def _actor(sessions: Sessions, email: str | None) -> UUID | None:
    if email is None:
        return None
    async with session_scope(sessions) as session:
        found = await session.scalar(select(User.id).where(User.email == email.lower()))
    if found is None:
        raise NotFound(f"there is no user {email!r}")
    return found
