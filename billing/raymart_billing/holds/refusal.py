"""Why the database granted no lease, and what the customer is told."""

from uuid import UUID

import msgspec
import psycopg

from raymart_core.errors import DomainError, Forbidden, InsufficientFunds
from raymart_core.ids import Prefix, show
from raymart_core.money import Money

BLOCKED = "lease_not_blocked"
WITHIN_BALANCE = "lease_within_balance"
WITHIN_BUDGET = "lease_within_budget"
WITHIN_SHARE = "lease_within_share"
IS_OPEN = "lease_is_open"
_KNOWN = frozenset({BLOCKED, WITHIN_BALANCE, WITHIN_BUDGET, WITHIN_SHARE, IS_OPEN})

_PREFIX_BY_SCOPE = {
    "organization": Prefix.ORGANIZATION,
    "project": Prefix.PROJECT,
    "api_key": Prefix.API_KEY,
}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the refusal's detail says; nano-USD."""

    available: int = 0
    elsewhere: int = 0
    """Leases of other gateways that may give something back."""
    scope: str = ""
    scope_id: UUID | None = None
    period: str = ""
    limit: int = 0
    spent: int = 0
    reserved: int = 0


class BudgetExceeded(InsufficientFunds):
    """A budget does not cover the upper bound of the request; `scope`, `period`, `limit`, `spent` say which."""

    code = "budget_exceeded"

    def __init__(self, message: str, *, scope: str, period: str, limit: Money, spent: Money) -> None:
        super().__init__(message)
        self.scope = scope
        self.period = period
        self.limit = limit
        self.spent = spent


class Refused(Exception):
    """The database granted nothing; `constraint` says why."""

    def __init__(self, constraint: str, figures: Figures) -> None:
        super().__init__(constraint)
        self.constraint = constraint
        self.figures = figures

    @property
    def is_hopeful(self) -> bool:
        """Whether it may help that others give back what they do not need."""
        return self.constraint in (WITHIN_BALANCE, WITHIN_BUDGET) and self.figures.elsewhere > 0

    def explained(self, organization_id: UUID, amount: int) -> DomainError:
        """The error for a request that may cost up to `amount` nano-USD."""
        if self.constraint == BLOCKED:
            return Forbidden(
                f"{show(Prefix.ORGANIZATION, organization_id)} is blocked over an open payment question;"
                " write to support"
            )
        figures = self.figures
        if self.constraint == WITHIN_BUDGET:
            assert figures.scope_id is not None
            limit, spent = Money(figures.limit), Money(figures.spent)
            return BudgetExceeded(
                f"this request may cost up to {Money(amount)}, but of the {figures.period} budget {limit} of"
                f" {show(_PREFIX_BY_SCOPE[figures.scope], figures.scope_id)} {spent} is spent and"
                f" {Money(figures.reserved)} reserved by running requests; raise the budget or lower max_tokens",
                scope=figures.scope,
                period=figures.period,
                limit=limit,
                spent=spent,
            )
        return InsufficientFunds(
            f"this request may cost up to {Money(amount)}, but {Money(figures.available)} of"
            f" {show(Prefix.ORGANIZATION, organization_id)}'s balance is available; add credit or lower max_tokens"
        )


def refusal_of(error: psycopg.Error) -> Refused | None:
    """The refusal that `error` stands for, if it is one of ours."""
    constraint = error.diag.constraint_name
    if constraint not in _KNOWN:
        return None
    detail = error.diag.message_detail
    return Refused(constraint, msgspec.json.decode(detail, type=Figures) if detail else Figures())
