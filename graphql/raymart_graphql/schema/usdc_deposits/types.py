"""Requests to pay in USDC and payments, as customers and as administrators see them."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_billing.usdc_deposits import models, qr
from raymart_billing.usdc_deposits.requests import MEMO_PREFIX
from raymart_core.clock import now
from raymart_core.money import Asset
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.usdc_deposits.enums import (
    Attribution,
    SenderMark,
    UsdcDepositState,
    UsdcTopUpStatus,
)

if TYPE_CHECKING:
    from raymart_graphql.schema.identity.types import Organization

LazyOrganization = Annotated["Organization", strawberry.lazy("raymart_graphql.schema.identity.types")]
ON_THEIR_WAY = frozenset({UsdcDepositState.SEEN, UsdcDepositState.FINAL})


@strawberry.type(description="A payment in USDC, by the transaction that made it.")
class UsdcDeposit:
    """Visible to the customer's members and to administrators."""

    signature: str = strawberry.field(description="The transaction's signature, base58.")
    account: str = strawberry.field(description="The marketplace's token account that it reached.")
    state: UsdcDepositState = strawberry.field(description="Where it stands.")
    amount: Money = strawberry.field(description="What arrived; booked as as many US dollars.")
    attributed_by: Attribution | None = strawberry.field(
        description="How it was told whose it is; null while nobody knows."
    )
    held_for_review: bool = strawberry.field(
        description="Whether it is final and not credited, until an administrator has looked at it."
    )
    memo: str | None = strawberry.field(description="What the payer wrote, at most 500 characters.")
    slot: BigInt = strawberry.field(description="Where on the chain it landed.")
    paid_at: datetime | None = strawberry.field(description="When it landed, by the chain's clock.")
    final_at: datetime | None = strawberry.field(description="When it was final; null before.")
    credited_at: datetime | None = strawberry.field(description="When it was credited; null before.")

    @classmethod
    def of(cls, row: models.UsdcDeposit) -> "UsdcDeposit":
        """`row` as the API shows it."""
        return cls(
            signature=row.signature,
            account=row.account,
            state=row.state,
            amount=usdc(row.amount_micro_usdc),
            attributed_by=row.attributed_by,
            held_for_review=row.state is UsdcDepositState.FINAL,
            memo=row.memo,
            slot=BigInt(row.slot),
            paid_at=row.block_time,
            final_at=row.final_at,
            credited_at=row.credited_at,
        )

    @resolved("The transaction on a public explorer; null where no chain is configured any more.")
    async def explorer_url(self, info: Info) -> str | None:
        """By the configured chain."""
        rail = info.context.services.usdc_rail
        return None if rail is None else rail.link(self.signature)


@strawberry.type(description="A request to pay in USDC: show its code, or open its URL in a wallet.")
class UsdcTopUp:
    """Visible to the customer's members and to administrators."""

    uuid: strawberry.Private[UUID]
    reference: str = strawberry.field(
        description="Its public key, which the payment carries among its accounts; unique, and its name here."
    )
    url: str = strawberry.field(description="A Solana Pay transfer request for a wallet.")
    amount: Money | None = strawberry.field(
        description="What the wallet is asked to pay; null for any amount."
    )
    memo: str = strawberry.field(
        description="What to write where a wallet or an exchange takes a memo and knows no Solana Pay."
    )
    expires_at: datetime = strawberry.field(
        description="Until when it is open. A payment that comes later is credited all the same."
    )
    created_at: datetime = strawberry.field(description="When it was asked for.")

    @classmethod
    def of(cls, row: models.UsdcTopUp) -> "UsdcTopUp":
        """`row` as the API shows it."""
        return cls(
            uuid=row.id,
            reference=row.reference,
            url=row.url,
            amount=None if row.amount_micro_usdc is None else usdc(row.amount_micro_usdc),
            memo=f"{MEMO_PREFIX}{row.reference}",
            expires_at=row.expires_at,
            created_at=row.created_at,
        )

    @resolved(
        "`url` as a QR code: an SVG without scripts, styles or links; as a file `GET"
        " /billing/usdc-top-ups/{reference}.svg`."
    )
    def qr_svg(self) -> str:
        """Made when it is asked for."""
        return qr.as_svg(self.url)

    @resolved("What was paid to it, oldest first; at most 100.")
    async def deposits(self, info: Info) -> list[UsdcDeposit]:
        """Payments by id."""
        return await info.context.loaders.usdc_deposits.deposits_of_top_up.load(self.uuid)

    @resolved("How it stands.")
    async def status(self, info: Info) -> UsdcTopUpStatus:
        """By its payments, else by its time."""
        paid = await info.context.loaders.usdc_deposits.deposits_of_top_up.load(self.uuid)
        return status_of(paid, is_over=self.expires_at <= now())


@strawberry.type(description="A wallet that paid a deposit, or a part of it.")
class UsdcSource:
    """For administrators."""

    wallet: str | None = strawberry.field(description="Whose token account it is, as the chain says.")
    account: str = strawberry.field(description="The token account.")
    amount: Money = strawberry.field(description="What left it.")


@strawberry.type(description="A payment to the treasury with all that is known of it. For administrators.")
class TreasuryDeposit:
    """What is decided about, and what was decided."""

    organization_uuid: strawberry.Private[UUID | None]
    deposit: UsdcDeposit = strawberry.field(description="As its customer sees it.")
    sources: list[UsdcSource] = strawberry.field(description="Who paid, the largest part first.")
    reference: str | None = strawberry.field(description="The request that it names.")
    held_reason: str | None = strawberry.field(
        description="Why it waits for a person; null when it does not."
    )
    decision_reason: str | None = strawberry.field(description="Why a person decided as they did.")

    @resolved("Whose it is; null while nobody knows.")
    async def organization(self, info: Info) -> LazyOrganization | None:
        """The customer."""
        if self.organization_uuid is None:
            return None
        return await info.context.loaders.identity.organization.load(self.organization_uuid)

    @classmethod
    def of(cls, row: models.UsdcDeposit) -> "TreasuryDeposit":
        """`row` as administrators see it."""
        return cls(
            organization_uuid=row.organization_id,
            deposit=UsdcDeposit.of(row),
            sources=[
                UsdcSource(wallet=each["wallet"], account=each["account"], amount=usdc(each["amount"]))
                for each in row.sources
            ],
            reference=row.reference,
            held_reason=row.held_reason,
            decision_reason=row.decision_reason,
        )


@strawberry.type(description="What is known of a wallet that pays. For administrators.")
class UsdcSender:
    """Written down by administrators."""

    wallet: str = strawberry.field(description="Its address.")
    mark: SenderMark = strawberry.field(description="What it is.")
    reason: str = strawberry.field(description="Why.")
    created_at: datetime = strawberry.field(description="When it was first marked.")

    @classmethod
    def of(cls, row: models.UsdcSender) -> "UsdcSender":
        """`row` as the API shows it."""
        return cls(wallet=row.wallet, mark=row.mark, reason=row.reason, created_at=row.created_at)


@strawberry.type(description="The treasury, and how far it was read. For administrators.")
class UsdcTreasury:
    """What an administrator looks at when customers miss their money."""

    wallet: str = strawberry.field(description="Whom customers pay.")
    account: str = strawberry.field(description="Its token account, which is read.")
    mint: str = strawberry.field(description="The token that counts as USDC.")
    scanned_at: datetime | None = strawberry.field(
        description="When it was last read to the end; null for never."
    )
    problem: str | None = strawberry.field(description="Why the last reading stopped; null when it did not.")
    problem_since: datetime | None = strawberry.field(description="Since when.")
    gap: Money | None = strawberry.field(
        description="By how much the chain's balance exceeds what was read; null when they agree."
    )
    undecided: int = strawberry.field(description="Deposits that wait for a person.")


def usdc(micro_usdc: int) -> Money:
    """Micro-USDC as the API shows it."""
    return Money.of(Amount(micro_usdc, Asset.USDC))


def status_of(paid: Sequence[UsdcDeposit], *, is_over: bool) -> UsdcTopUpStatus:
    """How a request with these payments stands."""
    if any(deposit.credited_at is not None for deposit in paid):
        return UsdcTopUpStatus.PAID
    if any(deposit.state in ON_THEIR_WAY for deposit in paid):
        return UsdcTopUpStatus.SEEN
    return UsdcTopUpStatus.EXPIRED if is_over else UsdcTopUpStatus.OPEN
