"""A provider's earnings by epoch, its payments, and what comes next, as the API shows them."""

from datetime import datetime
from uuid import UUID

import strawberry

from raymart_billing.payouts import models
from raymart_billing.payouts.provider_view import (
    UNPAID_IN_WORDS,
    EpochSums,
    NextPayout,
    PaymentState,
    epoch_sums,
    payment_state,
)
from raymart_billing.self_billing import models as documents
from raymart_billing.solana.addresses import explorer_url
from raymart_core.money import Asset
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.enums import expose
from raymart_graphql.fields import resolved
from raymart_graphql.scalars import BigInt, Money

expose(
    PaymentState,
    name="ProviderPaymentState",
    description="Where a payment to a provider stands.",
    values={
        "PLANNED": "In a batch that waits for the marketplace's people.",
        "APPROVED": "Approved, and about to be sent.",
        "SENT": "Signed, and perhaps on the chain, but not final.",
        "PAID": "Final on the chain.",
        "HELD": "Stopped until a person has looked at it.",
        "REFUSED": "The wallet's account refused it; it is kept for the provider until that is settled.",
        "RETURNED": "Back on the provider's balance; the next payout pays it.",
    },
)


def usdc(micro_usdc: int) -> Money:
    """A column of micro-USDC as the API shows it."""
    return Money.of(Amount(micro_usdc, Asset.USDC))


@strawberry.type(description="A span of time whose earnings are paid together.")
class PayoutPeriod:
    """The same for all providers."""

    number: BigInt = strawberry.field(description="From 1, without gaps.")
    starts_at: datetime = strawberry.field(description="The end of the one before.")
    ends_at: datetime = strawberry.field(description="When it was over.")

    @classmethod
    def of(cls, row: models.Epoch) -> "PayoutPeriod":
        """`row` as the API shows it."""
        return cls(number=BigInt(row.number), starts_at=row.starts_at, ends_at=row.ends_at)


@strawberry.type(
    description="What a provider supplied up to a payment, as an invoice that the marketplace writes for it."
)
class SelfBillingInvoice:
    """Visible to those who read the provider's billing. It never changes."""

    number: str = strawberry.field(description="Such as `RMS-2026-000001`.")
    issued_at: datetime = strawberry.field(description="When it was issued, once its payment was final.")
    supplied: Money = strawberry.field(description="Usage, less what refunds took.")
    opening_balance: Money = strawberry.field(description="What was payable before its first line.")
    closing_balance: Money = strawberry.field(description="What was payable after its last line.")
    paid: Money = strawberry.field(description="Its payment, in USDC.")
    content_sha256: str = strawberry.field(description="Hash of all that it says, hexadecimal.")
    pdf_path: str = strawberry.field(description="Where the PDF is; send the same credentials.")
    csv_path: str = strawberry.field(description="Where its lines are as CSV; send the same credentials.")

    @classmethod
    def of(cls, row: documents.SelfBillingInvoice) -> "SelfBillingInvoice":
        """`row` as the API shows it."""
        return cls(
            number=row.number,
            issued_at=row.created_at,
            supplied=Money.of_nano_usd(row.earned_nano_usd),
            opening_balance=Money.of_nano_usd(row.opening_nano_usd),
            closing_balance=Money.of_nano_usd(row.closing_nano_usd),
            paid=usdc(row.paid_micro_usdc),
            content_sha256=row.content_sha256.hex(),
            pdf_path=f"/billing/self-billing/{row.number}.pdf",
            csv_path=f"/billing/self-billing/{row.number}.csv",
        )


@strawberry.type(description="A payment to a provider, in USDC on Solana.")
class ProviderPayment:
    """Visible to the provider's members; whom else its batch pays is not."""

    item: strawberry.Private[models.PayoutItem]
    uuid: strawberry.Private[UUID]
    amount: Money = strawberry.field(description="In USDC, in whole millionths.")
    wallet: str = strawberry.field(description="The wallet that it goes to.")
    token_account: str = strawberry.field(description="The wallet's account of USDC, where it arrives.")
    planned_at: datetime = strawberry.field(description="When it was planned.")
    reason: str | None = strawberry.field(description="Why it was refused or returned.")

    @classmethod
    def of(cls, row: models.PayoutItem) -> "ProviderPayment":
        """`row` as the API shows it."""
        return cls(
            item=row,
            uuid=row.id,
            amount=usdc(row.amount_micro_usdc),
            wallet=row.wallet,
            token_account=row.token_account,
            planned_at=row.created_at,
            reason=row.reason,
        )

    @resolved("Where it stands.")
    async def state(self, info: Info) -> PaymentState:
        """By its batch, and by the transaction that sends it."""
        loaders = info.context.loaders.provider_payouts
        batch = await loaders.batch.load_known(self.item.batch_id)
        return payment_state(self.item, batch, await self._part(info))

    @resolved("Number of the batch that it is in, for questions to the marketplace.")
    async def batch_number(self, info: Info) -> BigInt:
        """What people call the batch by."""
        batch = await info.context.loaders.provider_payouts.batch.load_known(self.item.batch_id)
        return BigInt(batch.number)

    @resolved("The period whose earnings it pays, with what was carried over into it.")
    async def period(self, info: Info) -> PayoutPeriod:
        """The epoch."""
        assert self.item.epoch_id is not None, "a provider's payment is of an epoch"
        return PayoutPeriod.of(
            await info.context.loaders.provider_payouts.epoch.load_known(self.item.epoch_id)
        )

    @resolved("The transaction that paid it; null until it is final.")
    async def signature(self, info: Info) -> str | None:
        """Base58."""
        part = await self._paying(info)
        return None if part is None else part.signature

    @resolved("Where the transaction can be looked at; null until it is final.")
    async def explorer_url(self, info: Info) -> str | None:
        """On a public explorer, for public chains."""
        part = await self._paying(info)
        if part is None or part.signature is None:
            return None
        settings = info.context.services.settings
        # An explorer reaches a chain of one's own by its address; that of a public one may hold a provider's key.
        is_own = settings.solana_chain_id == "solana:localnet" and settings.solana_rpc_urls
        rpc_url = settings.solana_rpc_urls[0].get_secret_value() if is_own else None
        return explorer_url(part.signature, settings.solana_chain_id, rpc_url=rpc_url)

    @resolved("When it was final; null until then.")
    async def finalized_at(self, info: Info) -> datetime | None:
        """By our clock."""
        part = await self._paying(info)
        return None if part is None else part.finalized_at

    async def _paying(self, info: Info) -> models.PayoutPart | None:
        """The part that has paid it; None before. That a part is final says nothing of an item that was taken out of it."""
        return await self._part(info) if self.item.state is models.ItemState.PAID else None

    async def _part(self, info: Info) -> models.PayoutPart | None:
        if self.item.part_id is None:
            return None
        return await info.context.loaders.provider_payouts.part.load_known(self.item.part_id)


@strawberry.type(description="What a provider earned in one period, and what became of it.")
class PeriodEarnings:
    """`gross` - `clawback` - `holdback` = `payable`."""

    earning: strawberry.Private[models.Earning]
    gross: Money = strawberry.field(description="The provider's part of usage.")
    clawback: Money = strawberry.field(description="What refunds took of it.")
    holdback: Money = strawberry.field(description="What is kept back until the trust in it has matured.")
    matures_at: datetime | None = strawberry.field(
        description="When the holdback may be released; null where nothing is kept."
    )
    released_at: datetime | None = strawberry.field(
        description="When it was released; a later payout has paid it."
    )
    payable: Money = strawberry.field(
        description="What could be paid at once; below zero where refunds took more than was earned."
    )

    @classmethod
    def of(cls, row: models.Earning) -> "PeriodEarnings":
        """`row` as the API shows it."""
        return cls(
            earning=row,
            gross=Money.of_nano_usd(row.gross_nano_usd),
            clawback=Money.of_nano_usd(row.clawback_nano_usd),
            holdback=Money.of_nano_usd(row.holdback_nano_usd),
            matures_at=row.matures_at,
            released_at=row.released_at,
            payable=Money.of_nano_usd(epoch_sums(row, None).payable),
        )

    @resolved("The period.")
    async def period(self, info: Info) -> PayoutPeriod:
        """The epoch."""
        return PayoutPeriod.of(
            await info.context.loaders.provider_payouts.epoch.load_known(self.earning.epoch_id)
        )

    @resolved("The payment that the period ended in; null when there is none, or none yet.")
    async def payment(self, info: Info) -> ProviderPayment | None:
        """The one that was not returned."""
        return await self._payment(info)

    @resolved("What earlier periods and matured holdbacks had left and the payment took with it.")
    async def carried_in(self, info: Info) -> Money:
        """Above zero where the payment is more than the period's own."""
        return Money.of_nano_usd((await self._sums(info)).carried_in)

    @resolved("What is left of it for the next payout: less than a millionth, or all that was not paid.")
    async def carried_over(self, info: Info) -> Money:
        """Nothing of it is lost."""
        return Money.of_nano_usd((await self._sums(info)).carried_over)

    @resolved("Why nothing was paid, with the next step; null when it was, or when that is not known yet.")
    async def unpaid_because(self, info: Info) -> str | None:
        """As the last planning found it."""
        reason = self.earning.unpaid_reason
        return None if reason is None or await self._payment(info) is not None else UNPAID_IN_WORDS[reason]

    async def _payment(self, info: Info) -> ProviderPayment | None:
        key = (self.earning.provider_id, self.earning.epoch_id)
        return await info.context.loaders.provider_payouts.payment_of_epoch.load(key)

    async def _sums(self, info: Info) -> EpochSums:
        payment = await self._payment(info)
        return epoch_sums(self.earning, None if payment is None else payment.item)


@strawberry.type(description="What the next payout would be if nothing changed.")
class PayoutEstimate:
    """No promise: usage, refunds and the holdback of the running period are to come."""

    at_most: Money = strawberry.field(
        description="What could be paid now, before the running period's holdback."
    )
    minimum: Money = strawberry.field(description="Less than this is carried over.")
    period_ends_at: datetime | None = strawberry.field(
        description="When the running period is over; it is paid once people have approved it. Null before the first."
    )
    blocked_because: str | None = strawberry.field(
        description="Why nothing would be paid, with the next step; null when it would."
    )

    @classmethod
    def of(cls, found: NextPayout) -> "PayoutEstimate":
        """`found` as the API shows it."""
        return cls(
            at_most=usdc(found.at_most),
            minimum=usdc(found.minimum),
            period_ends_at=found.epoch_ends_at,
            blocked_because=found.blocked,
        )
