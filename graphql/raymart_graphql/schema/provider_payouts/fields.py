"""The fields of `Provider` about its payouts. For its members; the rules are in `rules/wallets.py`."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Page

if TYPE_CHECKING:
    from raymart_graphql.schema.payout_wallets.types import PayoutWallet
    from raymart_graphql.schema.provider_payouts.types import (
        PayoutEstimate,
        PeriodEarnings,
        ProviderPayment,
        SelfBillingInvoice,
    )

LazyPayoutWallet = Annotated["PayoutWallet", strawberry.lazy("raymart_graphql.schema.payout_wallets.types")]

_TYPES = "raymart_graphql.schema.provider_payouts.types"
LazyPeriodEarnings = Annotated["PeriodEarnings", strawberry.lazy(_TYPES)]
LazyProviderPayment = Annotated["ProviderPayment", strawberry.lazy(_TYPES)]
LazySelfBillingInvoice = Annotated["SelfBillingInvoice", strawberry.lazy(_TYPES)]
LazyPayoutEstimate = Annotated["PayoutEstimate", strawberry.lazy(_TYPES)]


@strawberry.type
class ProviderPayouts:
    """Part of `Provider`."""

    uuid: strawberry.Private[UUID]

    @resolved("The wallet that its earnings go to, chosen and perhaps cooling down. For its members.")
    async def payout_wallet(self, info: Info) -> LazyPayoutWallet | None:
        """The choice that stands."""
        return await info.context.loaders.payout_wallets.current_of_provider.load(self.uuid)

    @listed("Every choice of a payout wallet, newest first. For its members.")
    async def payout_wallets(self, info: Info, page: Page) -> Connection[LazyPayoutWallet]:
        """The history, by id."""
        return await info.context.loaders.payout_wallets.history_of_provider.load((self.uuid, page))

    @listed("What it earned by period, and what became of it, newest first. For its members.")
    async def earnings_by_period(self, info: Info, page: Page) -> Connection[LazyPeriodEarnings]:
        """Periods that are over, by id."""
        return await info.context.loaders.provider_payouts.earnings_of_provider.load((self.uuid, page))

    @listed("Payments to it, newest first. For its members.")
    async def payouts(self, info: Info, page: Page) -> Connection[LazyProviderPayment]:
        """From their planning on, by id."""
        return await info.context.loaders.provider_payouts.payments_of_provider.load((self.uuid, page))

    @resolved("What the next payout would be if nothing changed. For its members.")
    async def next_payout(self, info: Info) -> LazyPayoutEstimate:
        """No promise."""
        return await info.context.loaders.provider_payouts.estimate_of_provider.load(self.uuid)

    @listed(
        "Its self-billing invoices, one for each final payment, newest first. For those who read its billing."
    )
    async def self_billing_invoices(self, info: Info, page: Page) -> Connection[LazySelfBillingInvoice]:
        """Documents by id."""
        return await info.context.loaders.provider_payouts.documents_of_provider.load((self.uuid, page))
