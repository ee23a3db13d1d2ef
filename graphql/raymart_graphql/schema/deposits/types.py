"""Deposits, disputes, grants and alerts."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_billing.alerts import Alert as AlertRow
from raymart_billing.alerts import AlertKind
from raymart_billing.credits import CreditGrant as CreditGrantRow
from raymart_billing.deposits import (
    Deposit as DepositRow,
)
from raymart_billing.deposits import (
    DepositRail,
    DepositState,
    DisputeStage,
    EventState,
    RefundOrigin,
    RefundState,
    StripeEvent,
)
from raymart_billing.deposits import DepositRefund as DepositRefundRow
from raymart_billing.deposits import Dispute as DisputeRow
from raymart_billing.deposits.stripe_facts import CURRENCY, nano_usd_of
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import GrantSource, expose
from raymart_graphql.fields import resolved
from raymart_graphql.relay import Node, global_id
from raymart_graphql.scalars import Money

if TYPE_CHECKING:
    from raymart_graphql.schema.identity.types import Organization

LazyOrganization = Annotated["Organization", strawberry.lazy("raymart_graphql.schema.identity.types")]

expose(
    DepositRail,
    name="DepositRail",
    description="How money reaches the marketplace.",
    values={
        "CARD": "A card, on the page of the card processor.",
        "USDC": "USDC on Solana.",
    },
)
expose(
    DepositState,
    name="DepositState",
    description="Where a deposit stands.",
    values={
        "CREATED": "The card processor has not answered yet; send the same mutation again.",
        "PENDING": "Waiting to be paid, or for the bank.",
        "SUCCEEDED": "Paid, and held for review.",
        "CREDITED": "In the balance.",
        "FAILED": "The bank or the card processor refused.",
        "EXPIRED": "Nobody paid in time.",
        "REFUNDED": "Paid back in full.",
        "DISPUTED": "The bank took it back, for the time being or for good.",
    },
)
expose(
    RefundState,
    name="DepositRefundState",
    description="Where the refund of a deposit stands.",
    values={
        "REQUESTED": "On its way; it has left the balance.",
        "SUCCEEDED": "Done.",
        "FAILED": "Refused; it is in the balance again.",
    },
)
expose(
    RefundOrigin,
    name="DepositRefundOrigin",
    description="Who paid a deposit back.",
    values={
        "PLATFORM": "An administrator of the marketplace.",
        "PROCESSOR": "Somebody at the card processor.",
    },
)
expose(
    DisputeStage,
    name="DisputeStage",
    description="What a bank's dispute means for the money.",
    values={
        "INQUIRY": "A question of the bank; no money has moved.",
        "OPEN": "The bank has taken the money for the time being.",
        "WON": "The bank gave it back.",
        "LOST": "The bank keeps it.",
    },
)
expose(
    EventState,
    name="StripeEventState",
    description="What became of an event of the card processor.",
    values={
        "RECEIVED": "Written down, not yet applied.",
        "APPLIED": "The books know it.",
        "IGNORED": "Of no concern here.",
        "REVIEW": "Not what it should be; for an administrator.",
        "RESOLVED": "An administrator has seen to it.",
    },
)
expose(
    AlertKind,
    name="AlertKind",
    description="What an alert is about.",
    values={
        "LOW_BALANCE": "The balance fell below the threshold.",
        "BUDGET_NEAR": "A budget is used to 80 % or more.",
        "BUDGET_EXHAUSTED": "A budget is used up.",
    },
)


@strawberry.type(description="A deposit, or a part of it, paid back to its card.")
class DepositRefund:
    """Visible with its deposit."""

    state: RefundState = strawberry.field(description="Where it stands.")
    origin: RefundOrigin = strawberry.field(description="Who paid it back.")
    amount: Money = strawberry.field(description="How much.")
    shortfall: Money = strawberry.field(description="The part that the balance did not cover: it is owed.")
    reason: str = strawberry.field(description="Why.")
    failed_reason: str | None = strawberry.field(description="Why it failed; null unless it did.")
    created_at: datetime = strawberry.field(description="When it was asked for.")

    @classmethod
    def of(cls, row: DepositRefundRow) -> "DepositRefund":
        """`row` as the API shows it."""
        return cls(
            state=row.state,
            origin=row.origin,
            amount=Money.of_nano_usd(row.amount_nano_usd),
            shortfall=Money.of_nano_usd(row.shortfall_nano_usd),
            reason=row.reason,
            failed_reason=row.failed_reason,
            created_at=row.created_at,
        )


@strawberry.type(description="A bank's dispute of a deposit.")
class Dispute(Node):
    """Visible to the customer's members and to administrators."""

    organization_uuid: strawberry.Private[UUID | None]
    stage: DisputeStage = strawberry.field(description="What it means for the money.")
    status: str = strawberry.field(description="The card processor's own word.")
    reason: str = strawberry.field(description="Why the bank disputes, in the card processor's word.")
    amount: Money | None = strawberry.field(
        description="What is disputed; null in another currency than dollars."
    )
    from_balance: Money = strawberry.field(
        description="What was in the balance still and is out of reach now."
    )
    owed: Money = strawberry.field(description="What was spent already and became a debt.")
    evidence_due_at: datetime | None = strawberry.field(description="Until when the bank takes evidence.")
    held_reason: str | None = strawberry.field(
        description="Why the books do not follow it; null when they do."
    )
    created_at: datetime = strawberry.field(description="When it was first heard of.")

    @classmethod
    def of(cls, row: DisputeRow) -> "Dispute":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.DISPUTE, row.id),
            organization_uuid=row.organization_id,
            stage=row.stage,
            status=row.status,
            reason=row.reason,
            amount=Money.of_nano_usd(nano_usd_of(row.amount)) if row.currency == CURRENCY else None,
            from_balance=Money.of_nano_usd(row.from_balance_nano_usd),
            owed=Money.of_nano_usd(row.from_receivable_nano_usd),
            evidence_due_at=row.evidence_due_at,
            held_reason=row.held_reason,
            created_at=row.created_at,
        )

    async def owner(self, _operation: Operation) -> UUID | None:
        """The customer; nobody while the deposit is not known."""
        return self.organization_uuid

    @resolved("Whose deposit it is; null while that is not known.")
    async def organization(self, info: Info) -> LazyOrganization | None:
        """The customer."""
        if self.organization_uuid is None:
            return None
        return await info.context.loaders.identity.organization.load(self.organization_uuid)


@strawberry.type(description="Money on its way in.")
class Deposit(Node):
    """Visible to the customer's members and to administrators."""

    uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID]
    payment_id: strawberry.Private[str | None]
    rail: DepositRail = strawberry.field(description="How it comes.")
    state: DepositState = strawberry.field(description="Where it stands.")
    amount: Money = strawberry.field(description="What was asked.")
    credited: Money = strawberry.field(description="What went into the balance.")
    refunded: Money = strawberry.field(description="What of it was paid back, or is on its way back.")
    checkout_url: str | None = strawberry.field(
        description="The page to pay it on; null unless it waits to be paid."
    )
    failed_reason: str | None = strawberry.field(description="Why it failed; null unless it did.")
    held_for_review: bool = strawberry.field(
        description="Whether it was paid and is not credited, because the payment is not what was asked."
    )
    expires_at: datetime = strawberry.field(description="When the page closes.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    credited_at: datetime | None = strawberry.field(description="When it was credited; null before.")

    @classmethod
    def of(cls, row: DepositRow) -> "Deposit":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.DEPOSIT, row.id),
            uuid=row.id,
            organization_uuid=row.organization_id,
            payment_id=row.payment_id,
            rail=row.rail,
            state=row.state,
            amount=Money.of_nano_usd(row.amount_nano_usd),
            credited=Money.of_nano_usd(row.credited_nano_usd),
            refunded=Money.of_nano_usd(row.refunded_nano_usd),
            checkout_url=row.session_url if row.state is DepositState.PENDING else None,
            failed_reason=row.failed_reason if row.state is DepositState.FAILED else None,
            held_for_review=row.held_reason is not None,
            expires_at=row.expires_at,
            created_at=row.created_at,
            credited_at=row.credited_at,
        )

    async def owner(self, _operation: Operation) -> UUID:
        """The customer."""
        return self.organization_uuid

    @resolved("Whose it is.")
    async def organization(self, info: Info) -> LazyOrganization:
        """The customer."""
        return await info.context.loaders.identity.organization.load_known(self.organization_uuid)

    @resolved("What was paid back of it, oldest first; at most 100.")
    async def refunds(self, info: Info) -> list[DepositRefund]:
        """Refunds by id."""
        return await info.context.loaders.deposits.refunds_of_deposit.load(self.uuid)

    @resolved("What banks say against it, oldest first; at most 100.")
    async def disputes(self, info: Info) -> list[Dispute]:
        """Disputes of its payment."""
        if self.payment_id is None:
            return []
        return await info.context.loaders.deposits.disputes_of_payment.load(self.payment_id)


@strawberry.type(description="Credit that was given, not paid.")
class CreditGrant(Node):
    """Visible to the customer's members and to administrators."""

    organization_uuid: strawberry.Private[UUID]
    transfer_number: strawberry.Private[int]
    amount: Money = strawberry.field(description="How much was given.")
    source: GrantSource = strawberry.field(description="Who gave it.")
    reason: str = strawberry.field(description="Why; may be empty.")
    expires_at: datetime | None = strawberry.field(
        description="When what is left is taken back; null for never."
    )
    created_at: datetime = strawberry.field(description="When it was given.")

    @classmethod
    def of(cls, row: CreditGrantRow) -> "CreditGrant":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.CREDIT_GRANT, row.id),
            organization_uuid=row.organization_id,
            transfer_number=row.transfer_id,
            amount=Money.of_nano_usd(row.amount_nano_usd),
            source=row.source,
            reason=row.reason,
            expires_at=row.expires_at,
            created_at=row.created_at,
        )

    async def owner(self, _operation: Operation) -> UUID:
        """Who got it."""
        return self.organization_uuid

    @resolved(
        "What is left of it. Granted credit is used before paid money, what ends first before the rest."
    )
    async def remaining(self, info: Info) -> Money:
        """By the ledger's history."""
        parts = await info.context.loaders.billing.parts_of_balance.load(self.organization_uuid)
        return Money.of_nano_usd(parts.left_of(self.transfer_number))


@strawberry.type(description="A threshold that was crossed.")
class Alert(Node):
    """Visible to the customer's members and to administrators."""

    organization_uuid: strawberry.Private[UUID]
    kind: AlertKind = strawberry.field(description="What it is about.")
    threshold: Money = strawberry.field(description="What was crossed.")
    value: Money = strawberry.field(description="What it was when the alert was raised.")
    created_at: datetime = strawberry.field(description="When it was raised.")
    cleared_at: datetime | None = strawberry.field(description="When it was over; null while it stands.")

    @classmethod
    def of(cls, row: AlertRow) -> "Alert":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.ALERT, row.id),
            organization_uuid=row.organization_id,
            kind=row.kind,
            threshold=Money.of_nano_usd(row.threshold_nano_usd),
            value=Money.of_nano_usd(row.value_nano_usd),
            created_at=row.created_at,
            cleared_at=row.cleared_at,
        )

    async def owner(self, _operation: Operation) -> UUID:
        """Who is told."""
        return self.organization_uuid


@strawberry.type(description="Why a customer may not spend.")
class BillingBlock:
    """Visible with its organization."""

    reason: str = strawberry.field(description="Why.")
    by_rule: bool = strawberry.field(
        description="Whether a rule made it, and will lift it; else an administrator did."
    )
    created_at: datetime = strawberry.field(description="Since when.")


@strawberry.type(name="StripeEvent", description="An event of the card processor. For administrators.")
class ProcessorEvent:
    """What came in and what became of it; nothing of a person or a card is kept."""

    event_id: str = strawberry.field(description="The card processor's id.")
    type: str = strawberry.field(description="What happened, in the card processor's word.")
    object_id: str = strawberry.field(description="To which of its objects.")
    state: EventState = strawberry.field(description="What became of it.")
    detail: str | None = strawberry.field(description="Why it was ignored or needs a review.")
    resolution: str | None = strawberry.field(description="What an administrator did about it.")
    occurred_at: datetime = strawberry.field(description="By the card processor's clock.")
    received_at: datetime = strawberry.field(description="When it reached us.")

    @classmethod
    def of(cls, row: StripeEvent) -> "ProcessorEvent":
        """`row` as the API shows it."""
        return cls(
            event_id=row.id,
            type=row.type,
            object_id=row.object_id,
            state=row.state,
            detail=row.detail,
            resolution=row.resolution,
            occurred_at=row.occurred_at,
            received_at=row.received_at,
        )
