"""The gate before dispatch: a hold per request, in one statement on the hot path."""

from uuid import UUID

import psycopg
import structlog

from raymart_billing.connections import Connection, Pool, insist
from raymart_billing.holds.release import hold_key, release_holds
from raymart_billing.ledger.refusals import AMOUNT_MAX, NO_OVERDRAFT, refused_by
from raymart_core.errors import InsufficientFunds, Unavailable
from raymart_core.ids import Prefix, show
from raymart_core.money import Asset, Money

log = structlog.get_logger()

_HOLD = b"""
    select ledger_hold(
        %(key)s,
        (select id from ledger_account where kind = 'customer_balance' and owner_id = %(owner)s and asset = 'usd'),
        (select id from ledger_account where kind = 'usage_clearing' and owner_id = %(owner)s and asset = 'usd'),
        %(amount)s::bigint, 'usage_hold', %(ttl_s)s * interval '1 second'
    )
"""
_AVAILABLE = b"""
    select credits_posted - debits_posted - debits_pending from ledger_account
     where kind = 'customer_balance' and owner_id = %(owner)s and asset = 'usd'
"""


class LedgerHoldGate:
    """Implements `core.ports.HoldGate` on the ledger. A hold touches only its customer's own two accounts."""

    def __init__(self, pool: Pool, *, timeout_s: float = 5.0) -> None:
        """`timeout_s`: how long a hold waits for a database that is away before the request is refused."""
        self._pool = pool
        self._timeout_s = timeout_s

    async def hold(self, *, request_id: UUID, organization_id: UUID, amount: Money, ttl_s: float) -> None:
        """Reserve `amount` for `request_id`, idempotently by its id; nothing to reserve (free models) is a no-op.

        The database decides: its row lock and CHECK hold for any number of gateways. `ttl_s` counts by its clock.
        Locks the organization's two accounts for one statement.
        Raises: InsufficientFunds; Unavailable when the database stays away.
        """
        assert amount.asset is Asset.USD
        assert amount.amount >= 0, f"hold of {amount}"
        if not amount:
            return
        hold = {
            "key": hold_key(request_id),
            "owner": organization_id,
            "amount": min(amount.amount, AMOUNT_MAX),
            "ttl_s": ttl_s,
        }

        async def place(connection: Connection) -> None:
            await connection.execute(_HOLD, hold)

        try:
            await insist(self._pool, place, timeout_s=self._timeout_s, purpose="hold")
        except psycopg.errors.NoDataFound:
            # The organization's accounts are opened by its first credit.
            raise self._insufficient(organization_id, amount, available=Money(0)) from None
        except psycopg.errors.CheckViolation as error:
            if not refused_by(NO_OVERDRAFT, error):
                raise
            available = await self._available(organization_id)
            raise self._insufficient(organization_id, amount, available=available) from None

    async def release(self, *, request_id: UUID) -> None:
        """Void the hold of `request_id`; a no-op when it is captured, voided or unknown.

        While the database is away nothing is voided and nothing raised: the hold's TTL ends it.
        """

        async def void(connection: Connection) -> None:
            await release_holds(connection, [request_id])

        try:
            await insist(self._pool, void, timeout_s=self._timeout_s, purpose="release")
        except Unavailable:
            log.warning("hold.release_left_to_ttl", request_id=show(Prefix.REQUEST, request_id))

    async def _available(self, organization_id: UUID) -> Money:
        async def read(connection: Connection) -> Money:
            row = await (await connection.execute(_AVAILABLE, {"owner": organization_id})).fetchone()
            return Money(row[0] if row else 0)

        return await insist(self._pool, read, timeout_s=self._timeout_s, purpose="balance")

    def _insufficient(self, organization_id: UUID, amount: Money, *, available: Money) -> InsufficientFunds:
        return InsufficientFunds(
            f"this request may cost up to {amount}, but {available} of"
            f" {show(Prefix.ORGANIZATION, organization_id)}'s balance is available; add credit or lower max_tokens"
        )
