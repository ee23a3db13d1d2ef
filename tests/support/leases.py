"""Short ways to the functions of leases and budgets, as a gateway and an operator use them."""

import json
from typing import NamedTuple
from uuid import UUID

import psycopg

from raymart_billing.connections import Connection
from raymart_core.ids import new_id
from support.books import Books, fetch


class Lease(NamedTuple):
    """A lease's row."""

    held: int
    charged: int
    generation: int
    step: int
    is_open: bool


class LeaseDesk:
    """A gateway of one customer's leases, by SQL."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.gateway_id = new_id()
        self.project_id = new_id()
        self.api_key_id = new_id()

    async def take(
        self,
        lease_id: UUID,
        needed: int,
        *,
        wanted: int | None = None,
        step: int = 1,
        share: int = 1,
        single_use: bool = False,
        ttl: str = "1 minute",
        connection: Connection | None = None,
        gateway_id: UUID | None = None,
    ) -> int:
        """What was granted."""
        statement = "select granted from lease_take(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::interval, %s)"
        parameters = (
            lease_id, step, gateway_id or self.gateway_id, self.books.organization_id, self.project_id,
            self.api_key_id, needed, wanted or needed, share, ttl, single_use,
        )  # fmt: skip
        rows = (
            await fetch(connection, statement, *parameters)
            if connection
            else await self.books.fetch(statement, *parameters)
        )
        return rows[0][0]

    async def give_back(self, lease_id: UUID, amount: int = 0, *, step: int, closes: bool = False) -> int:
        return await self.books.value(
            "select lease_return(%s, %s, %s, %s::bigint[], %s)",
            self.gateway_id, [lease_id], [step], [amount], [closes],
        )  # fmt: skip

    async def capture(self, charges: dict[UUID, int], lease_id: UUID) -> dict[str, tuple[int, int]]:
        return await self.books.capture(charges, leases=[lease_id] * len(charges))

    async def lease(self, lease_id: UUID) -> Lease:
        [row] = await self.books.fetch(
            "select held, charged, generation, step, closed_at is null from credit_lease where id = %s",
            lease_id,
        )
        return Lease(*row)

    async def limit(self, scope: str, scope_id: UUID, period: str, limit: int) -> UUID:
        return await self.books.value(
            "select budget_set(%s, %s, %s, %s, %s, %s, null)",
            new_id(), self.books.organization_id, scope, scope_id, period, limit,
        )  # fmt: skip

    async def counted(self, budget_id: UUID) -> tuple[int, int]:
        """(spent, reserved) of the budget in all its periods."""
        [row] = await self.books.fetch(
            "select coalesce(sum(spent), 0)::bigint, coalesce(sum(reserved), 0)::bigint from budget_period"
            " where budget_id = %s",
            budget_id,
        )
        return row


def refusal(error: psycopg.Error) -> tuple[str | None, dict[str, object]]:
    """The constraint that refused, and its figures."""
    return error.diag.constraint_name, json.loads(error.diag.message_detail or "{}")
