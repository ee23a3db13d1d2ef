"""What a gateway asks of the database about leases, each one statement of `0005_leases.sql`."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import psycopg

from raymart_billing.connections import Connection, Pool, insist
from raymart_billing.holds.lease import Giving, Payer
from raymart_billing.holds.limits import LeaseLimits
from raymart_billing.holds.refusal import refusal_of

_TAKE = b"""
    select granted, left_s, budgets from lease_take(
        %(lease)s, %(step)s, %(gateway)s, %(organization)s, %(project)s, %(api_key)s, %(needed)s, %(wanted)s, %(share)s,
        %(ttl_s)s * interval '1 second', %(single_use)s
    )
"""
_RENEW = b"""
    select lease_id, step, held, charged, is_recalled, is_single_use, left_s
      from lease_renew(%(gateway)s, %(ttl_s)s * interval '1 second')
"""
_RETURN = b"""
    select lease_return(%(gateway)s, %(leases)s::uuid[], %(steps)s::integer[], %(amounts)s::bigint[], %(closes)s::boolean[])
"""
_BUDGETS = b"select id from budgets_of(%(organization)s, %(project)s, %(api_key)s)"
_RECALL = b"select lease_recall(%(organization)s)"

RETURNS_PER_STATEMENT_MAX = 200


class Taken(NamedTuple):
    """A lease that was opened or enlarged."""

    granted: int
    left_s: float
    budgets: frozenset[UUID]


class Standing(NamedTuple):
    """How a lease stands in the database."""

    lease_id: UUID
    step: int
    held: int
    charged: int
    is_recalled: bool
    is_single_use: bool
    left_s: float


class LeaseDesk:
    """One gateway's statements. Each may be repeated after a lost connection: the database counts a step once."""

    def __init__(self, pool: Pool, gateway_id: UUID, limits: LeaseLimits) -> None:
        self._pool = pool
        self._limits = limits
        self.gateway_id = gateway_id

    async def take(
        self, lease_id: UUID, *, step: int, payer: Payer, needed: int, wanted: int, single_use: bool
    ) -> Taken:
        """Open the lease (step 1) or enlarge it. Raises: Refused, Unavailable."""
        asked = {
            "lease": lease_id, "step": step, "gateway": self.gateway_id, "organization": payer.organization_id,
            "project": payer.project_id, "api_key": payer.api_key_id, "needed": needed, "wanted": wanted,
            "share": self._limits.share, "ttl_s": self._limits.ttl_s, "single_use": single_use,
        }  # fmt: skip

        async def take(connection: Connection) -> Taken:
            row = await (await connection.execute(_TAKE, asked)).fetchone()
            assert row is not None
            return Taken(row[0], row[1], frozenset(row[2]))

        try:
            return await insist(
                self._pool, take, timeout_s=self._limits.statement_timeout_s, purpose="credit lease"
            )
        except psycopg.errors.CheckViolation as error:
            refused = refusal_of(error)
            if refused is None:
                raise
            raise refused from None

    async def renew(self) -> Sequence[Standing]:
        """Keep the open leases alive. Raises: Unavailable."""

        async def renew(connection: Connection) -> Sequence[Standing]:
            asked = {"gateway": self.gateway_id, "ttl_s": self._limits.ttl_s}
            return [Standing(*row) for row in await (await connection.execute(_RENEW, asked)).fetchall()]

        return await insist(self._pool, renew, timeout_s=self._limits.renew_every_s, purpose="lease renewal")

    async def give_back(self, given: Sequence[tuple[UUID, Giving]]) -> None:
        """Give back at most `RETURNS_PER_STATEMENT_MAX` leases or parts of them. Raises: Unavailable."""
        asked = {
            "gateway": self.gateway_id,
            "leases": [lease_id for lease_id, _ in given],
            "steps": [giving.step for _, giving in given],
            "amounts": [giving.amount for _, giving in given],
            "closes": [giving.closes for _, giving in given],
        }

        async def give(connection: Connection) -> None:
            await connection.execute(_RETURN, asked)

        await insist(self._pool, give, timeout_s=self._limits.renew_every_s, purpose="lease return")

    async def budgets_of(self, payer: Payer) -> frozenset[UUID]:
        """The budgets that the payer's requests count against. Raises: Unavailable."""

        async def read(connection: Connection) -> frozenset[UUID]:
            asked = {
                "organization": payer.organization_id,
                "project": payer.project_id,
                "api_key": payer.api_key_id,
            }
            return frozenset(row[0] for row in await (await connection.execute(_BUDGETS, asked)).fetchall())

        return await insist(self._pool, read, timeout_s=self._limits.statement_timeout_s, purpose="budgets")

    async def recall(self, organization_id: UUID) -> None:
        """Ask all gateways for what they do not need of the organization's leases. Raises: Unavailable."""

        async def ask(connection: Connection) -> None:
            await connection.execute(_RECALL, {"organization": organization_id})

        await insist(self._pool, ask, timeout_s=self._limits.statement_timeout_s, purpose="lease recall")
