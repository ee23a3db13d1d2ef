"""Budgets: set, removed, and how they stand. Takes a session, never commits.

The limit is enforced by `lease_take`, in the transaction that leases the money. A change locks the organization's
accounts, so no second ledger call belongs into its transaction; it recalls the organization's leases at its commit.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.budgets.models import Budget, BudgetPeriod, BudgetPeriodKind, BudgetScope
from raymart_billing.ledger.refusals import AMOUNT_MAX
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_marketplace.accounts.models import ApiKey, Organization, Project

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStanding:
    """A budget in its present period."""

    scope: BudgetScope
    scope_id: UUID
    period: BudgetPeriodKind
    limit: Money
    spent: Money
    reserved: Money
    """Leased by gateways for requests that are running or about to."""
    resets_at: datetime | None
    """When the period is over; None for a lifetime budget."""


async def set_budget(
    session: AsyncSession,
    *,
    scope: BudgetScope,
    scope_id: UUID,
    period: BudgetPeriodKind,
    limit: Money,
    actor_id: UUID | None,
) -> BudgetStanding:
    """Limit what the scope may spend in a period; a repeat changes the limit and keeps what was counted.

    What was spent before the budget existed does not count. Takes effect on running gateways within seconds.
    Raises: InvalidRequest, NotFound.
    """
    if limit.asset is not Asset.USD or not 0 < limit.amount <= AMOUNT_MAX:
        raise InvalidRequest(
            f"a limit of {limit}; give more than 0 and at most {Money(AMOUNT_MAX)}", param="limit"
        )
    organization_id = await _organization_of(session, scope, scope_id)
    await session.execute(
        select(
            func.budget_set(
                new_id(), organization_id, scope.value, scope_id, period.value, limit.amount, actor_id
            )
        )
    )
    log.info(
        "budget.set",
        scope=scope.value,
        scope_id=str(scope_id),
        period=period.value,
        limit_nano_usd=limit.amount,
        actor_id=str(actor_id),
    )
    [standing] = await _standings(
        session, Budget.scope == scope, Budget.scope_id == scope_id, Budget.period == period
    )
    return standing


async def remove_budget(
    session: AsyncSession,
    *,
    scope: BudgetScope,
    scope_id: UUID,
    period: BudgetPeriodKind,
    actor_id: UUID | None,
) -> None:
    """Limit the scope no more, and forget what was counted. Raises: NotFound."""
    found = await session.scalar(
        select(Budget).where(Budget.scope == scope, Budget.scope_id == scope_id, Budget.period == period)
    )
    if found is None or not await session.scalar(select(func.budget_remove(found.id, found.organization_id))):
        raise NotFound(
            f"there is no {period.value} budget of this {scope.value.replace('_', ' ')}", param="period"
        )
    log.info(
        "budget.removed",
        scope=scope.value,
        scope_id=str(scope_id),
        period=period.value,
        actor_id=str(actor_id),
    )


async def budgets_of_scopes(
    session: AsyncSession, scope: BudgetScope, scope_ids: Collection[UUID]
) -> Sequence[BudgetStanding]:
    """The budgets of these organizations, projects or keys, shortest period first."""
    return await _standings(session, Budget.scope == scope, Budget.scope_id.in_(scope_ids))


async def budgets_of_organization(session: AsyncSession, organization_id: UUID) -> Sequence[BudgetStanding]:
    """All budgets under an organization: its own, its projects' and its keys'."""
    return await _standings(session, Budget.organization_id == organization_id)


async def _standings(session: AsyncSession, *conditions: ColumnElement[bool]) -> Sequence[BudgetStanding]:
    starts_on = func.budget_starts_on(Budget.period, func.clock_timestamp())
    statement = (
        select(
            Budget, BudgetPeriod.spent, BudgetPeriod.reserved, func.budget_ends_at(Budget.period, starts_on)
        )
        .outerjoin(
            BudgetPeriod, (BudgetPeriod.budget_id == Budget.id) & (BudgetPeriod.starts_on == starts_on)
        )
        .where(*conditions)
        .order_by(Budget.scope, Budget.scope_id, Budget.period)
        # `budget_set` has changed rows behind the session's back.
        .execution_options(populate_existing=True)
    )
    return [
        BudgetStanding(
            scope=budget.scope,
            scope_id=budget.scope_id,
            period=budget.period,
            limit=Money(budget.limit_nano_usd),
            spent=Money(spent or 0),
            reserved=Money(reserved or 0),
            resets_at=resets_at,
        )
        for budget, spent, reserved, resets_at in await session.execute(statement)
    ]


async def _organization_of(session: AsyncSession, scope: BudgetScope, scope_id: UUID) -> UUID:
    """Whose money the scope spends. Raises: NotFound."""
    match scope:
        case BudgetScope.ORGANIZATION:
            statement = select(Organization.id).where(Organization.id == scope_id)
        case BudgetScope.PROJECT:
            statement = select(Project.organization_id).where(Project.id == scope_id)
        case BudgetScope.API_KEY:
            statement = (
                select(Project.organization_id)
                .join(ApiKey, ApiKey.project_id == Project.id)
                .where(ApiKey.id == scope_id)
            )
    organization_id = await session.scalar(statement)
    if organization_id is None:
        raise NotFound(f"there is no such {scope.value.replace('_', ' ')}", param="scope_id")
    return organization_id
