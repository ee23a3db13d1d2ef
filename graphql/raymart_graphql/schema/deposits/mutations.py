"""Top-ups, refunds, corrections, blocks and thresholds."""

from decimal import Decimal
from uuid import UUID

import strawberry

from raymart_billing import alerts, deposits
from raymart_billing.credits import adjust_balance
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.deposits.inputs import (
    AdjustBalanceInput,
    BlockCustomerInput,
    CreateDepositInput,
    CreditHeldDepositInput,
    RefundDepositInput,
    ResolveStripeEventInput,
    SetLowBalanceThresholdInput,
    UnblockCustomerInput,
)
from raymart_graphql.schema.deposits.types import Deposit, ProcessorEvent
from raymart_graphql.schema.identity.types import Organization
from raymart_graphql.schema.user_error import Payload


@strawberry.type(description="What createDeposit gives back.")
class CreateDepositPayload(Payload):
    """The deposit with its page, or why there is none."""

    deposit: Deposit | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type(description="What refundDeposit gives back.")
class RefundDepositPayload(Payload):
    """The deposit with its refund, or why there is none."""

    deposit: Deposit | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type(description="What creditHeldDeposit gives back.")
class CreditHeldDepositPayload(Payload):
    """The credited deposit, or why it is not."""

    deposit: Deposit | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.type(description="What resolveStripeEvent gives back.")
class ResolveStripeEventPayload(Payload):
    """The event, or why it is still in review."""

    event: ProcessorEvent | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type(description="What adjustBalance gives back.")
class AdjustBalancePayload(Payload):
    """The customer with its new balance, or why there is none."""

    organization: Organization | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type(description="What blockCustomer gives back.")
class BlockCustomerPayload(Payload):
    """The blocked customer, or why it is not."""

    organization: Organization | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type(description="What unblockCustomer gives back.")
class UnblockCustomerPayload(Payload):
    """The customer that may spend again, or why it may not."""

    organization: Organization | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type(description="What setLowBalanceThreshold gives back.")
class SetLowBalanceThresholdPayload(Payload):
    """The customer with its threshold, or why there is none."""

    organization: Organization | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.type
class DepositMutation:
    """Root fields of the domain."""

    @mutation("Top up a balance by card: open `deposit.checkoutUrl` to pay. For owners and admins.")
    async def create_deposit(self, info: Info, input_: CreateDepositInput) -> CreateDepositPayload:
        """Our row, then the processor's page, then the row again."""
        rail = deposits.required(info.context.services.card_rail)
        # No transaction is held while the processor is asked.
        await info.context.reading.aclose()
        row = await deposits.create_deposit(
            info.context.services.sessions,
            rail.processor,
            rail.rules,
            organization_id=parse_global_id(
                Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
            ),
            amount=_dollars(input_.amount, "amount"),
            key=input_.idempotency_key,
            actor_id=await _person(info),
        )
        return CreateDepositPayload(deposit=Deposit.of(row))

    @mutation("Pay a deposit back to its card. For administrators.")
    async def refund_deposit(self, info: Info, input_: RefundDepositInput) -> RefundDepositPayload:
        """Takes it out of the balance now; the card processor is asked until it answers."""
        rail = deposits.required(info.context.services.card_rail)
        deposit_id = parse_global_id(Prefix.DEPOSIT, input_.deposit_id, field="deposit_id")
        async with info.context.writing() as session:
            refund = await deposits.request_refund(
                session,
                deposit_id=deposit_id,
                amount=_dollars(input_.amount, "amount"),
                key=input_.idempotency_key,
                reason=input_.reason,
                actor_id=await _person(info),
            )
        await deposits.try_refund(info.context.services.sessions, rail.processor, refund.id)
        return RefundDepositPayload(deposit=await info.context.loaders.deposits.deposit.load(deposit_id))

    @mutation("Credit a payment that was held for review, by what was received. For administrators.")
    async def credit_held_deposit(
        self, info: Info, input_: CreditHeldDepositInput
    ) -> CreditHeldDepositPayload:
        """An administrator's decision."""
        deposit_id = parse_global_id(Prefix.DEPOSIT, input_.deposit_id, field="deposit_id")
        async with info.context.writing() as session:
            row = await deposits.credit_held(
                session, deposit_id=deposit_id, reason=input_.reason, actor_id=await _person(info)
            )
        return CreditHeldDepositPayload(deposit=Deposit.of(row))

    @mutation("Take an event out of review; it moves nothing. For administrators.")
    async def resolve_stripe_event(
        self, info: Info, input_: ResolveStripeEventInput
    ) -> ResolveStripeEventPayload:
        """An administrator's note."""
        async with info.context.writing() as session:
            row = await deposits.resolve_event(
                session, event_id=input_.event_id, reason=input_.reason, actor_id=await _person(info)
            )
        return ResolveStripeEventPayload(event=ProcessorEvent.of(row))

    @mutation("Correct a customer's balance, up or down. For administrators.")
    async def adjust_balance(self, info: Info, input_: AdjustBalanceInput) -> AdjustBalancePayload:
        """One transfer, once per idempotency key."""
        organization_id = await _known(info, input_.organization_id)
        async with info.context.writing() as session:
            await adjust_balance(
                session,
                organization_id=organization_id,
                change=_dollars(input_.amount, "amount"),
                key=input_.idempotency_key,
                reason=input_.reason,
                actor_id=await _person(info),
            )
        return AdjustBalancePayload(
            organization=await info.context.loaders.identity.organization.load(organization_id)
        )

    @mutation("Keep a customer from spending. For administrators.")
    async def block_customer(self, info: Info, input_: BlockCustomerInput) -> BlockCustomerPayload:
        """Recalls the customer's leases: what runs is finished, nothing new begins."""
        organization_id = await _known(info, input_.organization_id)
        async with info.context.writing() as session:
            await deposits.block_customer(
                session, organization_id, reason=input_.reason, actor_id=await _person(info)
            )
        return BlockCustomerPayload(
            organization=await info.context.loaders.identity.organization.load(organization_id)
        )

    @mutation("Let a blocked customer spend again. For administrators.")
    async def unblock_customer(self, info: Info, input_: UnblockCustomerInput) -> UnblockCustomerPayload:
        """Ends a rule's block and an administrator's alike."""
        organization_id = await _known(info, input_.organization_id)
        async with info.context.writing() as session:
            await deposits.unblock_customer(
                session, organization_id, reason=input_.reason, actor_id=await _person(info)
            )
        return UnblockCustomerPayload(
            organization=await info.context.loaders.identity.organization.load(organization_id)
        )

    @mutation("Choose when to be told that the balance is low. For owners and admins.")
    async def set_low_balance_threshold(
        self, info: Info, input_: SetLowBalanceThresholdInput
    ) -> SetLowBalanceThresholdPayload:
        """The customer's own threshold in place of the marketplace's."""
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        threshold = None if input_.threshold is None else _dollars(input_.threshold, "threshold")
        async with info.context.writing() as session:
            await alerts.set_threshold(session, organization_id=organization_id, threshold=threshold)
        return SetLowBalanceThresholdPayload(
            organization=await info.context.loaders.identity.organization.load(organization_id)
        )


async def _person(info: Info) -> UUID:
    principal = await info.context.principal()
    assert principal.user_id is not None, "the rule lets only people in"
    return principal.user_id


async def _known(info: Info, text: str) -> UUID:
    """The organization that `text` names. Raises: InvalidRequest, NotFound."""
    organization_id = parse_global_id(Prefix.ORGANIZATION, text, field="organization_id")
    if await info.context.loaders.identity.organization.load(organization_id) is None:
        raise NotFound(f"there is no organization {text!r}", param="organization_id")
    return organization_id


def _dollars(value: Decimal, field: str) -> Amount:
    try:
        return Amount.parse(str(value))
    except ValueError as error:
        raise InvalidRequest(str(error), param=field) from None
