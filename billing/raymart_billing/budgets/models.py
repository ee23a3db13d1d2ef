"""Tables of budgets. Written by the functions of `0005_leases.sql` only; any other statement is refused."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, text_enum


class BudgetScope(StrEnum):
    """Whose spending a budget limits."""

    ORGANIZATION = "organization"
    """All of an organization's."""
    PROJECT = "project"
    """One project's."""
    API_KEY = "api_key"
    """What one API key spends."""


class BudgetPeriodKind(StrEnum):
    """How long a budget counts before it begins anew. Days and months are those of UTC."""

    DAILY = "daily"
    """From midnight to midnight."""
    MONTHLY = "monthly"
    """From the first of a month to the next."""
    LIFETIME = "lifetime"
    """For ever."""


class Budget(Base):
    """A limit on what may be spent in a period. One per scope and period."""

    __tablename__ = "budget"
    __table_args__ = (
        UniqueConstraint("scope", "scope_id", "period"),
        CheckConstraint(
            "scope <> 'organization' or scope_id = organization_id", name="organization_is_scope"
        ),
        CheckConstraint("limit_nano_usd > 0", name="limit_positive"),
        Index("ix_budget_organization_id", "organization_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    scope: Mapped[BudgetScope] = mapped_column(text_enum(BudgetScope))
    scope_id: Mapped[UUID]
    """Organization, project or key, by `scope`."""
    period: Mapped[BudgetPeriodKind] = mapped_column(text_enum(BudgetPeriodKind))
    limit_nano_usd: Mapped[int] = mapped_column(BigInteger)
    actor_id: Mapped[UUID | None]
    """Who set it last."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class BudgetPeriod(Base):
    """What counted against a budget in one period. `reserved` is what the open leases of the period hold."""

    __tablename__ = "budget_period"
    __table_args__ = (CheckConstraint("spent >= 0 and reserved >= 0", name="not_negative"),)

    budget_id: Mapped[UUID] = mapped_column(ForeignKey("budget.id", ondelete="CASCADE"), primary_key=True)
    starts_on: Mapped[date] = mapped_column(primary_key=True)
    """First day, UTC."""
    spent: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    reserved: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class LeaseBudget(Base):
    """A lease counts against a budget, in the period in which it was taken."""

    __tablename__ = "lease_budget"
    __table_args__ = (
        ForeignKeyConstraint(
            ["budget_id", "starts_on"],
            ["budget_period.budget_id", "budget_period.starts_on"],
            name="fk_lease_budget_budget_id_budget_period",
            ondelete="CASCADE",
        ),
        Index("ix_lease_budget_budget_id_starts_on", "budget_id", "starts_on"),
    )

    lease_id: Mapped[UUID] = mapped_column(
        ForeignKey("credit_lease.id", ondelete="CASCADE"), primary_key=True
    )
    budget_id: Mapped[UUID] = mapped_column(primary_key=True)
    starts_on: Mapped[date]
