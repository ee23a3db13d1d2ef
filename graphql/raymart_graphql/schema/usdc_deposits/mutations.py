"""Asking for a top-up in USDC, and deciding about payments."""

from decimal import Decimal
from uuid import UUID

import strawberry

from raymart_billing.usdc_deposits.decisions import assign_deposit, deposit_of, fund_treasury
from raymart_billing.usdc_deposits.rail import required
from raymart_billing.usdc_deposits.refunds import RefundOrder, cancel_refund, request_refund
from raymart_billing.usdc_deposits.requests import create_top_up
from raymart_billing.usdc_deposits.senders import mark_sender, unmark_sender
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix
from raymart_core.money import Asset
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.scalars import BigInt
from raymart_graphql.schema.usdc_deposits.inputs import (
    AssignUsdcDepositInput,
    CancelUsdcRefundInput,
    CreateUsdcTopUpInput,
    FundTreasuryInput,
    MarkUsdcSenderInput,
    RefundUsdcDepositInput,
    UnmarkUsdcSenderInput,
)
from raymart_graphql.schema.usdc_deposits.types import TreasuryDeposit, UsdcSender, UsdcTopUp
from raymart_graphql.schema.user_error import Payload
from raymart_marketplace.db.session import session_scope

NONE = "Null when there are user errors."


@strawberry.type(description="What createUsdcTopUp gives back.")
class CreateUsdcTopUpPayload(Payload):
    """The request with its URL, or why there is none."""

    top_up: UsdcTopUp | None = strawberry.field(default=None, description=NONE)


@strawberry.type(description="What assignUsdcDeposit gives back.")
class AssignUsdcDepositPayload(Payload):
    """The credited deposit, or why it is not."""

    deposit: TreasuryDeposit | None = strawberry.field(default=None, description=NONE)


@strawberry.type(description="What fundTreasury gives back.")
class FundTreasuryPayload(Payload):
    """The deposit that is the marketplace's own now, or why it is not."""

    deposit: TreasuryDeposit | None = strawberry.field(default=None, description=NONE)


@strawberry.type(description="What refundUsdcDeposit gives back.")
class RefundUsdcDepositPayload(Payload):
    """The deposit on its way back, or why it is not."""

    deposit: TreasuryDeposit | None = strawberry.field(default=None, description=NONE)
    batch_number: BigInt | None = strawberry.field(
        default=None,
        description="The payout that somebody else must approve; null when there are user errors.",
    )


@strawberry.type(description="What cancelUsdcRefund gives back.")
class CancelUsdcRefundPayload(Payload):
    """The deposit as it was before, or why it is still on its way."""

    deposit: TreasuryDeposit | None = strawberry.field(default=None, description=NONE)


@strawberry.type(description="What markUsdcSender gives back.")
class MarkUsdcSenderPayload(Payload):
    """What is known now, or why not."""

    sender: UsdcSender | None = strawberry.field(default=None, description=NONE)


@strawberry.type(description="What unmarkUsdcSender gives back.")
class UnmarkUsdcSenderPayload(Payload):
    """The wallet of which nothing is said any more, or why not."""

    wallet: str | None = strawberry.field(default=None, description=NONE)


@strawberry.type
class UsdcDepositMutation:
    """Root fields of the domain."""

    @mutation("Top up a balance in USDC: pay `topUp.url` from a wallet. For owners, admins and billing.")
    async def create_usdc_top_up(self, info: Info, input_: CreateUsdcTopUpInput) -> CreateUsdcTopUpPayload:
        """A row; the chain is not asked for anything."""
        services = info.context.services
        rail = required(services.usdc_rail)
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        amount, actor_id = _usdc(input_.amount), await _person(info)
        # Requests are written as the marketplace, for a tenant has no right to write its deposits.
        await info.context.reading.aclose()
        async with session_scope(services.sessions) as session:
            row = await create_top_up(
                session,
                rail,
                organization_id=organization_id,
                amount=amount,
                key=input_.idempotency_key,
                actor_id=actor_id,
            )
        return CreateUsdcTopUpPayload(top_up=UsdcTopUp.of(row))

    @mutation("Credit a payment that nobody could tell, or that is held, to a customer. For administrators.")
    async def assign_usdc_deposit(
        self, info: Info, input_: AssignUsdcDepositInput
    ) -> AssignUsdcDepositPayload:
        """An administrator's decision."""
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        if await info.context.loaders.identity.organization.load(organization_id) is None:
            raise NotFound(f"there is no organization {input_.organization_id!r}", param="organization_id")
        async with info.context.writing() as session:
            found = await deposit_of(session, input_.signature, account=input_.account)
            row = await assign_deposit(
                session,
                found.id,
                organization_id=organization_id,
                reason=input_.reason,
                actor_id=await _person(info),
            )
        return AssignUsdcDepositPayload(deposit=TreasuryDeposit.of(row))

    @mutation("Book a payment as the marketplace's own, which fills up its treasury. For administrators.")
    async def fund_treasury(self, info: Info, input_: FundTreasuryInput) -> FundTreasuryPayload:
        """An administrator's decision."""
        async with info.context.writing() as session:
            found = await deposit_of(session, input_.signature, account=input_.account)
            row = await fund_treasury(session, found.id, reason=input_.reason, actor_id=await _person(info))
        return FundTreasuryPayload(deposit=TreasuryDeposit.of(row))

    @mutation(
        "Plan a payout that sends a payment back to a wallet that paid it. It leaves the balance now, and the chain once"
        " somebody else has approved the payout. For administrators."
    )
    async def refund_usdc_deposit(
        self, info: Info, input_: RefundUsdcDepositInput
    ) -> RefundUsdcDepositPayload:
        """A batch of one."""
        async with info.context.writing() as session:
            found = await deposit_of(session, input_.signature, account=input_.account)
            order = RefundOrder(
                deposit_id=found.id,
                reason=input_.reason,
                amount=_usdc(input_.amount),
                wallet=input_.wallet,
                acknowledges_exchange=input_.acknowledges_exchange,
            )
            batch = await request_refund(session, order, actor_id=await _person(info))
            row = await deposit_of(session, input_.signature, account=input_.account)
        return RefundUsdcDepositPayload(deposit=TreasuryDeposit.of(row), batch_number=BigInt(batch.number))

    @mutation("Take back a refund of which nothing was signed yet. For administrators.")
    async def cancel_usdc_refund(self, info: Info, input_: CancelUsdcRefundInput) -> CancelUsdcRefundPayload:
        """The money is where it was before."""
        async with info.context.writing() as session:
            found = await deposit_of(session, input_.signature, account=input_.account)
            row = await cancel_refund(session, found.id, reason=input_.reason, actor_id=await _person(info))
        return CancelUsdcRefundPayload(deposit=TreasuryDeposit.of(row))

    @mutation("Say that a wallet is blocked, or an exchange's; a repeat replaces it. For administrators.")
    async def mark_usdc_sender(self, info: Info, input_: MarkUsdcSenderInput) -> MarkUsdcSenderPayload:
        """Holds what arrives from now on."""
        async with info.context.writing() as session:
            row = await mark_sender(
                session,
                input_.wallet,
                mark=input_.mark,
                reason=input_.reason,
                actor_id=await _person(info),
            )
        return MarkUsdcSenderPayload(sender=UsdcSender.of(row))

    @mutation("Forget what was said of a wallet; what is held stays held. For administrators.")
    async def unmark_usdc_sender(self, info: Info, input_: UnmarkUsdcSenderInput) -> UnmarkUsdcSenderPayload:
        """Nothing is said of it any more."""
        async with info.context.writing() as session:
            await unmark_sender(session, input_.wallet)
        return UnmarkUsdcSenderPayload(wallet=input_.wallet)


async def _person(info: Info) -> UUID:
    principal = await info.context.principal()
    assert principal.user_id is not None, "the rule lets only people in"
    return principal.user_id


def _usdc(value: Decimal | None) -> Amount | None:
    try:
        return None if value is None else Amount.parse(str(value), Asset.USDC)
    except ValueError as error:
        raise InvalidRequest(str(error), param="amount") from None
