"""A customer and a provider of a test's own, what they have in the ledger, and finished requests between them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from raymart_billing.connections import Connection, Pool
from raymart_billing.rating import UnitRater
from raymart_core.ids import new_id
from raymart_core.ports import AttemptRecord, FinishedRequest, Prices, Quantities, UsageEntry
from raymart_core.units import Fault, FinishReason

PRICES = Prices(token_prompt=2, token_completion=5)
RATER = UnitRater()
FEE_BASIS_POINTS = 1_000


class Columns(NamedTuple):
    """An account's balance columns."""

    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0

    @property
    def balance(self) -> int:
        return self.credits_posted - self.debits_posted


class Books:
    """Fresh ids, and short ways to the database for a test's set-up and checks."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.organization_id = new_id()
        self.provider_id = new_id()

    async def fetch(self, statement: str, *parameters: object) -> list[tuple]:
        async with self.pool.connection() as connection:
            return await fetch(connection, statement, *parameters)

    async def value(self, statement: str, *parameters: object):
        [[value]] = await self.fetch(statement, *parameters)
        return value

    async def account_id(self, kind: str, owner: UUID | None = None) -> int:
        """Id of the account, opened if it is new; of this customer, this provider or the platform unless `owner` says."""
        if owner is None:
            owner = {"provider_payable": self.provider_id}.get(kind) or (
                None if kind.startswith(("platform", "promotional")) else self.organization_id
            )
        return await self.value("select ledger_open_account(%s, %s::uuid, 'usd')", kind, owner)

    async def columns(self, kind: str) -> Columns:
        account_id = await self.account_id(kind)
        [row] = await self.fetch(
            "select debits_posted, credits_posted, debits_pending, credits_pending from ledger_account where id = %s",
            account_id,
        )
        return Columns(*row)

    async def fund(self, amount: int) -> None:
        await self.account_id("usage_clearing")
        await self.value(
            "select ledger_post_batch(%s, %s, %s, %s, %s)",
            [f"grant:{new_id()}"],
            [await self.account_id("promotional_credit")],
            [await self.account_id("customer_balance")],
            [amount],
            ["credit_grant"],
        )

    async def hold(self, request_id: UUID, amount: int, ttl: str = "1 minute") -> int:
        return await self.value(
            "select ledger_hold(%s, %s, %s, %s, 'usage_hold', %s::interval)",
            f"hold:{request_id}",
            await self.account_id("customer_balance"),
            await self.account_id("usage_clearing"),
            amount,
            ttl,
        )

    async def capture(
        self, charges: dict[UUID, int], leases: Sequence[UUID | None] | None = None
    ) -> dict[str, tuple[int, int]]:
        """Post usages by request, a tenth as the fee; (transfers, nano-USD) by code."""
        fees = [charge // 10 for charge in charges.values()]
        rows = await self.fetch(
            "select * from ledger_capture_usage(%s, %s, %s, %s::bigint[], %s::bigint[], %s::bigint[], %s::uuid[])",
            list(charges),
            [self.organization_id] * len(charges),
            [self.provider_id] * len(charges),
            list(charges.values()),
            [charge - fee for charge, fee in zip(charges.values(), fees, strict=True)],
            fees,
            leases,
        )
        return {code: (transfers, amount) for code, transfers, amount in rows}

    async def states_of(self, request_id: UUID) -> list[tuple[str, str, int]]:
        """(code, state, amount) of the request's transfers, as they were written."""
        return await self.fetch(
            "select code, state, amount from transfer where key like %s or key like %s order by id",
            f"hold:{request_id}%",
            f"usage:{request_id}%",
        )

    async def is_recorded(self, request_id: UUID) -> bool:
        return await self.value("select exists (select from request where id = %s)", request_id)

    def finished(
        self,
        *,
        tokens_prompt: int = 10,
        tokens_completion: int = 20,
        delivered: bool = True,
        **changes: object,
    ) -> FinishedRequest:
        """A request of this customer, served by this provider at `PRICES`; without usage unless `delivered`."""
        return finished(
            self.organization_id,
            self.provider_id,
            tokens_prompt=tokens_prompt,
            tokens_completion=tokens_completion,
            delivered=delivered,
            **changes,
        )


async def fetch(connection: Connection, statement: str, *parameters: object) -> list[tuple]:
    """All rows of `statement`; no rows for one that returns none."""
    cursor = await connection.execute(statement.encode(), parameters or None)
    return await cursor.fetchall() if cursor.description else []


def with_usage(request: FinishedRequest, **changes: object) -> FinishedRequest:
    """The same with another usage."""
    assert request.usage is not None
    return replace(request, usage=replace(request.usage, **changes))


def finished(
    organization_id: UUID,
    provider_id: UUID,
    *,
    tokens_prompt: int,
    tokens_completion: int,
    delivered: bool,
    **changes: object,
) -> FinishedRequest:
    quantities = Quantities(token_prompt=tokens_prompt, token_completion=tokens_completion, request=1)
    charge = RATER.rate(quantities, PRICES, fee_basis_points=FEE_BASIS_POINTS)
    endpoint_id = new_id()
    usage = UsageEntry(
        provider_id=provider_id,
        endpoint_id=endpoint_id,
        offer_id=new_id(),
        revision_id=new_id(),
        quantities=quantities,
        prices=PRICES,
        customer_amount=charge.customer,
        provider_amount=charge.provider,
        fee_amount=charge.fee,
        exact=True,
    )
    attempt = AttemptRecord(
        id=new_id(),
        endpoint_id=endpoint_id,
        provider_id=provider_id,
        node_id=new_id(),
        outcome="delivered" if delivered else "failed",
        fault=Fault.NONE if delivered else Fault.PROVIDER,
        reason="" if delivered else "connection lost",
        tokens_delivered=tokens_completion if delivered else 0,
        started_at=datetime.now(UTC),
        first_token_ms=12 if delivered else None,
        duration_ms=34,
    )
    fields: dict[str, object] = {
        "id": new_id(),
        "organization_id": organization_id,
        "project_id": new_id(),
        "api_key_id": new_id(),
        "user_id": None,
        "surface": "rest",
        "model_asked": "raymart/demo-chat",
        "model_served": "raymart/demo-chat",
        "state": "completed" if delivered else "failed",
        "finish_reason": FinishReason.STOP if delivered else None,
        "error_code": None if delivered else "upstream_failed",
        "streamed": True,
        "created_at": datetime.now(UTC),
        "first_token_ms": 12 if delivered else None,
        "duration_ms": 40,
        "attempts": (attempt,),
        "usage": usage if delivered else None,
    }
    return FinishedRequest(**{**fields, **changes})


def price(request: FinishedRequest) -> int:
    """What the customer pays for `request`, nano-USD."""
    return request.charge.amount


def continued(request: FinishedRequest, *tokens: int, prices: Prices = PRICES) -> FinishedRequest:
    """The same gone on with by a fresh provider for each of `tokens`, the completion tokens it delivered at `prices`."""
    assert request.usage is not None
    return replace(request, more=tuple(_later_part(request.usage, count, prices) for count in tokens))


def _later_part(first: UsageEntry, tokens: int, prices: Prices) -> UsageEntry:
    quantities = Quantities(token_completion=tokens)
    charge = RATER.rate(quantities, prices, fee_basis_points=FEE_BASIS_POINTS)
    return replace(
        first,
        provider_id=new_id(),
        endpoint_id=new_id(),
        offer_id=new_id(),
        quantities=quantities,
        prices=prices,
        customer_amount=charge.customer,
        provider_amount=charge.provider,
        fee_amount=charge.fee,
    )
