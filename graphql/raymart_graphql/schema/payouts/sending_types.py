"""Parts and attempts: how a batch is sent."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_billing.payouts import models
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.payouts.amounts import account_url, transaction_url, usdc
from raymart_graphql.schema.payouts.enums import AttemptState, PartState


@strawberry.type(description="One signed transaction of a part of a batch. For administrators.")
class PayoutAttempt:
    """Its bytes were committed before they were broadcast."""

    number: int = strawberry.field(description="From 1, within its part.")
    generation: int = strawberry.field(description="Of the part's marker account.")
    signature: str = strawberry.field(description="Base58.")
    version: int = strawberry.field(description="Of the transaction's format: 0 or 1.")
    state: AttemptState = strawberry.field(description="What became of it.")
    error: str | None = strawberry.field(description="The chain's error; null unless it failed.")
    blockhash: str = strawberry.field(description="What its life is counted from.")
    last_valid_block_height: BigInt = strawberry.field(description="After this block it can not land.")
    compute_unit_limit: int = strawberry.field(description="Compute units that it may use.")
    priority_fee_lamports: BigInt = strawberry.field(description="What it pays to be preferred.")
    created_at: datetime = strawberry.field(description="When it was signed.")
    resolved_at: datetime | None = strawberry.field(description="When that was known; null while it is live.")

    @classmethod
    def of(cls, row: models.PayoutAttempt) -> "PayoutAttempt":
        """`row` as the API shows it."""
        return cls(
            number=row.number,
            generation=row.generation,
            signature=row.signature,
            version=row.version,
            state=row.state,
            error=row.error,
            blockhash=row.blockhash,
            last_valid_block_height=BigInt(row.last_valid_block_height),
            compute_unit_limit=row.compute_unit_limit,
            priority_fee_lamports=BigInt(row.priority_fee_lamports),
            created_at=row.created_at,
            resolved_at=row.resolved_at,
        )

    @resolved("Where it can be looked at.")
    async def explorer_url(self, info: Info) -> str:
        """On a public explorer."""
        url = transaction_url(self.signature, info.context.services.settings)
        assert url is not None, "every attempt has a signature"
        return url


@strawberry.type(description="What one transaction of a batch pays. For administrators.")
class PayoutPart:
    """With its marker account, which lets it land once."""

    uuid: strawberry.Private[UUID]
    position: int = strawberry.field(description="From 0, within its batch.")
    state: PartState = strawberry.field(description="How far it has come.")
    state_reason: str | None = strawberry.field(description="Why it stands so, where that needs words.")
    total: Money = strawberry.field(description="What it pays.")
    generation: int = strawberry.field(description="Counts the marker accounts that were tried.")
    marker: str | None = strawberry.field(description="The marker's address; null before the first attempt.")
    attempts_made: int = strawberry.field(description="How often it was signed.")
    signature: str | None = strawberry.field(description="Of the transaction that landed.")
    slot: BigInt | None = strawberry.field(description="In which it landed.")
    fee_lamports: BigInt | None = strawberry.field(description="What landing cost.")
    finalized_at: datetime | None = strawberry.field(description="When it was final.")
    marker_reclaimed_at: datetime | None = strawberry.field(description="When the marker's rent came back.")

    @classmethod
    def of(cls, row: models.PayoutPart) -> "PayoutPart":
        """`row` as the API shows it."""
        return cls(
            uuid=row.id,
            position=row.position,
            state=row.state,
            state_reason=row.state_reason,
            total=usdc(row.total_micro_usdc),
            generation=row.generation,
            marker=row.marker,
            attempts_made=row.attempts,
            signature=row.signature,
            slot=None if row.slot is None else BigInt(row.slot),
            fee_lamports=None if row.fee_lamports is None else BigInt(row.fee_lamports),
            finalized_at=row.finalized_at,
            marker_reclaimed_at=row.marker_reclaimed_at,
        )

    @resolved("Where the transaction that landed can be looked at; null before.")
    async def explorer_url(self, info: Info) -> str | None:
        """On a public explorer."""
        return transaction_url(self.signature, info.context.services.settings)

    @resolved("Where the marker can be looked at; null before the first attempt.")
    async def marker_url(self, info: Info) -> str | None:
        """On a public explorer."""
        return account_url(self.marker, info.context.services.settings)

    @resolved("Every transaction that was signed for it, oldest first; at most 100.")
    async def attempts(self, info: Info) -> list[PayoutAttempt]:
        """By id."""
        return await info.context.loaders.payouts.attempts_of_part.load(self.uuid)
