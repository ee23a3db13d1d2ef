"""Batches, payees and epochs as administrators see them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_billing.payouts import models
from raymart_billing.payouts.outliers import ItemFacts, outliers_of
from raymart_core.money import Asset
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.payouts.amounts import account_url, usdc
from raymart_graphql.schema.payouts.enums import BatchKind, BatchState, ItemState, OutlierKind, UnpaidReason
from raymart_graphql.schema.payouts.sending_types import PayoutPart

if TYPE_CHECKING:
    from raymart_graphql.schema.identity.types import User
    from raymart_graphql.schema.supply.types import Provider
    from raymart_graphql.schema.usage.types import UsageRecord

LazyProvider = Annotated["Provider", strawberry.lazy("raymart_graphql.schema.supply.types")]
LazyUsageRecord = Annotated["UsageRecord", strawberry.lazy("raymart_graphql.schema.usage.types")]
LazyUser = Annotated["User", strawberry.lazy("raymart_graphql.schema.identity.types")]


@strawberry.type(description="A span of time whose earnings are paid together. For administrators.")
class PayoutEpoch:
    """Written down when it is over."""

    number: BigInt = strawberry.field(description="From 1, without gaps.")
    starts_at: datetime = strawberry.field(description="The end of the one before.")
    ends_at: datetime = strawberry.field(description="When it was over.")
    closed_at: datetime | None = strawberry.field(description="When every provider's earnings were drawn.")
    planned_at: datetime | None = strawberry.field(description="When its payouts were first planned.")

    @classmethod
    def of(cls, row: models.Epoch) -> "PayoutEpoch":
        """`row` as the API shows it."""
        return cls(
            number=BigInt(row.number),
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            closed_at=row.closed_at,
            planned_at=row.planned_at,
        )


@strawberry.type(description="Something unusual about a payee.")
class PayoutOutlier:
    """For the eyes of who approves."""

    kind: OutlierKind = strawberry.field(description="What.")
    text: str = strawberry.field(description="In words, with its figure.")


@strawberry.type(description="What is known of a payee at this moment.")
class PayoutItemFacts:
    """What outliers are found by."""

    trust: int = strawberry.field(description="How far the provider is trusted, 0 to 100; 50 is neutral.")
    payouts_before: int = strawberry.field(description="Earlier payouts that were looked at, up to 12.")
    average_before: Money | None = strawberry.field(description="What those were on average.")
    known_wallet: bool = strawberry.field(description="Whether one of those went to the same wallet.")
    present_wallet: bool = strawberry.field(description="Whether it is the provider's wallet still.")
    usage_flags: int = strawberry.field(description="Usage of the provider that is under review.")
    gross: Money = strawberry.field(description="What was earned in the epoch.")
    clawed_back: Money = strawberry.field(description="What refunds took of it.")
    refund_basis_points: int = strawberry.field(
        description="That as a part of what was earned; 10,000 is all of it."
    )

    @classmethod
    def of(cls, facts: ItemFacts) -> "PayoutItemFacts":
        """`facts` as the API shows them."""
        return cls(
            trust=facts.trust,
            payouts_before=facts.payouts_before,
            average_before=None if facts.average_before is None else Money.of(facts.average_before),
            known_wallet=facts.is_known_wallet,
            present_wallet=facts.is_present_wallet,
            usage_flags=facts.usage_flags,
            gross=Money.of(facts.gross),
            clawed_back=Money.of(facts.clawed_back),
            refund_basis_points=facts.refund_share,
        )


@strawberry.type(description="One payee of a batch. For administrators.")
class PayoutItem:
    """A provider for an epoch, or the payer of a top-up."""

    uuid: strawberry.Private[UUID]
    provider_uuid: strawberry.Private[UUID | None]
    position: int = strawberry.field(description="From 0; what splitPayoutBatch names it by.")
    wallet: str = strawberry.field(description="The wallet that is paid.")
    token_account: str = strawberry.field(description="The wallet's account of USDC, where it arrives.")
    amount: Money = strawberry.field(description="In whole millionths of a USDC.")
    state: ItemState = strawberry.field(description="What became of it.")
    reason: str | None = strawberry.field(description="Why it was quarantined or returned.")

    @classmethod
    def of(cls, row: models.PayoutItem) -> "PayoutItem":
        """`row` as the API shows it."""
        return cls(
            uuid=row.id,
            provider_uuid=row.provider_id,
            position=row.position,
            wallet=row.wallet,
            token_account=row.token_account,
            amount=usdc(row.amount_micro_usdc),
            state=row.state,
            reason=row.reason,
        )

    @resolved("Who is paid; null for a top-up that is paid back.")
    async def provider(self, info: Info) -> LazyProvider | None:
        """The provider."""
        if self.provider_uuid is None:
            return None
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)

    @resolved("Where the wallet can be looked at.")
    async def wallet_url(self, info: Info) -> str:
        """On a public explorer."""
        url = account_url(self.wallet, info.context.services.settings)
        assert url is not None, "every item has a wallet"
        return url

    @resolved("What is known of the payee at this moment.")
    async def facts(self, info: Info) -> PayoutItemFacts:
        """Read for a page at once."""
        return PayoutItemFacts.of(await info.context.loaders.payouts.facts_of_item.load(self.uuid))

    @resolved("What is unusual, the gravest first; at most one of each kind.")
    async def outliers(self, info: Info) -> list[PayoutOutlier]:
        """By the facts."""
        if self.provider_uuid is None:
            return []
        facts = await info.context.loaders.payouts.facts_of_item.load(self.uuid)
        return [PayoutOutlier(kind=found.kind, text=found.text) for found in outliers_of(facts)]


@strawberry.type(description="That a person approved a batch.")
class PayoutApproval:
    """Counts while the batch pays this total, and unless they planned it."""

    user_uuid: strawberry.Private[UUID]
    total: Money = strawberry.field(description="What they saw.")
    decided_at: datetime = strawberry.field(description="When.")

    @classmethod
    def of(cls, row: models.PayoutApproval) -> "PayoutApproval":
        """`row` as the API shows it."""
        return cls(user_uuid=row.user_id, total=usdc(row.total_micro_usdc), decided_at=row.decided_at)

    @resolved("Who.")
    async def user(self, info: Info) -> LazyUser | None:
        """The person."""
        return await info.context.loaders.identity.user.load(self.user_uuid)


@strawberry.type(description="A batch of payouts. For administrators.")
class PayoutBatch:
    """What people review and approve."""

    uuid: strawberry.Private[UUID]
    epoch_uuid: strawberry.Private[UUID | None]
    creator_uuid: strawberry.Private[UUID | None]
    split_from_uuid: strawberry.Private[UUID | None]
    total_micro_usdc: strawberry.Private[int]
    number: BigInt = strawberry.field(description="What people call it by.")
    kind: BatchKind = strawberry.field(description="What it pays.")
    state: BatchState = strawberry.field(description="How far it has come.")
    total: Money = strawberry.field(description="What it pays in all.")
    payees: int = strawberry.field(description="How many it pays.")
    mint: str = strawberry.field(description="Of the token that is paid.")
    hold_reason: str | None = strawberry.field(description="Why it is held; null unless it is.")
    created_at: datetime = strawberry.field(description="When it was planned.")
    approved_at: datetime | None = strawberry.field(description="When enough people had approved it.")
    finished_at: datetime | None = strawberry.field(description="When it was final, or cancelled.")

    @classmethod
    def of(cls, row: models.PayoutBatch) -> "PayoutBatch":
        """`row` as the API shows it."""
        return cls(
            uuid=row.id,
            epoch_uuid=row.epoch_id,
            creator_uuid=row.created_by,
            split_from_uuid=row.split_from,
            total_micro_usdc=row.total_micro_usdc,
            number=BigInt(row.number),
            kind=row.kind,
            state=row.state,
            total=usdc(row.total_micro_usdc),
            payees=row.payees,
            mint=row.mint,
            hold_reason=row.hold_reason,
            created_at=row.created_at,
            approved_at=row.approved_at,
            finished_at=row.finished_at,
        )

    @resolved("The epoch that it pays for; null for top-ups that are paid back.")
    async def epoch(self, info: Info) -> PayoutEpoch | None:
        """The epoch."""
        if self.epoch_uuid is None:
            return None
        return await info.context.loaders.payouts.epoch.load_known(self.epoch_uuid)

    @resolved("Who planned it, and so may not approve it; null where the clock did.")
    async def planned_by(self, info: Info) -> LazyUser | None:
        """The person."""
        if self.creator_uuid is None:
            return None
        return await info.context.loaders.identity.user.load(self.creator_uuid)

    @resolved("Number of the batch that it was split from; null for none.")
    async def split_from(self, info: Info) -> BigInt | None:
        """The older one."""
        if self.split_from_uuid is None:
            return None
        return (await info.context.loaders.payouts.batch.load_known(self.split_from_uuid)).number

    @resolved("How many people who did not plan it must approve its present total.")
    async def approvals_needed(self, info: Info) -> int:
        """By the policy that holds now."""
        rules = await info.context.loaders.payouts.rules()
        return rules.approvals_needed(Amount(self.total_micro_usdc, Asset.USDC))

    @resolved("Who approved it, oldest first; at most 100.")
    async def approvals(self, info: Info) -> list[PayoutApproval]:
        """Also those of an earlier total, which count no more."""
        return await info.context.loaders.payouts.approvals_of_batch.load(self.uuid)

    @listed("Whom it pays, in order.")
    async def items(self, info: Info, page: Page) -> Connection[PayoutItem]:
        """By position."""
        return await info.context.loaders.payouts.items_of_batch.load((self.uuid, page))

    @listed("The transactions that send it, in order; none before it is approved.")
    async def parts(self, info: Info, page: Page) -> Connection[PayoutPart]:
        """By position."""
        return await info.context.loaders.payouts.parts_of_batch.load((self.uuid, page))


@strawberry.type(description="A provider's earnings of an epoch that are in no batch. For administrators.")
class UnpaidEarning:
    """With the reason of the last planning."""

    provider_uuid: strawberry.Private[UUID]
    epoch_uuid: strawberry.Private[UUID]
    reason: UnpaidReason = strawberry.field(description="Why.")
    earned: Money = strawberry.field(description="In the epoch, after what refunds took.")
    held_back: Money = strawberry.field(description="Kept back of it.")

    @classmethod
    def of(cls, row: models.Earning) -> "UnpaidEarning":
        """`row` as the API shows it."""
        assert row.unpaid_reason is not None, "the list has only those with a reason"
        return cls(
            provider_uuid=row.provider_id,
            epoch_uuid=row.epoch_id,
            reason=UnpaidReason(row.unpaid_reason),
            earned=Money.of_nano_usd(row.gross_nano_usd - row.clawback_nano_usd),
            held_back=Money.of_nano_usd(row.holdback_nano_usd),
        )

    @resolved("Whose they are.")
    async def provider(self, info: Info) -> LazyProvider:
        """The provider."""
        return await info.context.loaders.supply.provider.load_known(self.provider_uuid)

    @resolved("The epoch.")
    async def epoch(self, info: Info) -> PayoutEpoch:
        """The epoch."""
        return await info.context.loaders.payouts.epoch.load_known(self.epoch_uuid)


@strawberry.type(description="A usage that a payee is paid for. For administrators.")
class PaidUsage:
    """One transfer of the ledger, within the range of the epoch's earnings."""

    usage_uuid: strawberry.Private[UUID | None]
    amount: Money = strawberry.field(description="The provider's part of it.")
    booked_at: datetime = strawberry.field(description="When it was booked.")

    @resolved("What was used; null once its record is archived.")
    async def usage(self, info: Info) -> LazyUsageRecord | None:
        """The usage record."""
        if self.usage_uuid is None:
            return None
        return await info.context.loaders.usage.usage_record.load(self.usage_uuid)
