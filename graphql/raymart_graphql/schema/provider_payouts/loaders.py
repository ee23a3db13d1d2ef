"""Loaders of what a provider sees of its payouts."""

from uuid import UUID

from sqlalchemy import ARRAY, Uuid, column, func, literal, select
from strawberry.dataloader import DataLoader

from raymart_billing.payouts import models as rows
from raymart_billing.payouts.provider_view import next_payout
from raymart_billing.self_billing import models as documents
from raymart_graphql.keyset import Listing, as_rows
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.provider_payouts.types import (
    PayoutEstimate,
    PeriodEarnings,
    ProviderPayment,
    SelfBillingInvoice,
)

EARNINGS = Listing(
    name="period_earnings",
    entity=rows.Earning,
    key=rows.Earning.id,
    show=PeriodEarnings.of,
    newest_first=True,
)
PAYMENTS = Listing(
    name="provider_payments",
    entity=rows.PayoutItem,
    key=rows.PayoutItem.id,
    show=ProviderPayment.of,
    newest_first=True,
)
DOCUMENTS = Listing(
    name="self_billing_invoices",
    entity=documents.SelfBillingInvoice,
    key=documents.SelfBillingInvoice.id,
    show=SelfBillingInvoice.of,
    newest_first=True,
)


class ProviderPayoutLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.batch = self._known(rows.PayoutBatch, lambda row: row)
        self.part = self._known(rows.PayoutPart, lambda row: row)
        self.epoch = self._known(rows.Epoch, lambda row: row)
        self.earnings_of_provider = self._pages(EARNINGS, rows.Earning.provider_id)
        self.payments_of_provider = self._pages(PAYMENTS, rows.PayoutItem.provider_id)
        self.documents_of_provider = self._pages(DOCUMENTS, documents.SelfBillingInvoice.provider_id)
        self.payment_of_epoch: DataLoader[tuple[UUID, UUID], ProviderPayment | None] = DataLoader(
            load_fn=self._payments
        )
        self.estimate_of_provider: DataLoader[UUID, PayoutEstimate] = DataLoader(load_fn=self._estimates)

    async def _payments(self, keys: list[tuple[UUID, UUID]]) -> list[ProviderPayment | None]:
        """The payment of a provider for an epoch; a returned one has made room for another."""
        item = rows.PayoutItem
        asked = (
            func.unnest(
                literal([provider for provider, _ in keys], ARRAY(Uuid())),
                literal([epoch for _, epoch in keys], ARRAY(Uuid())),
            )
            .table_valued(column("provider_id", Uuid()), column("epoch_id", Uuid()), name="asked")
            .render_derived()
        )
        statement = select(item.__table__).join(
            asked,
            (item.provider_id == asked.c.provider_id)
            & (item.epoch_id == asked.c.epoch_id)
            & (item.state != rows.ItemState.RETURNED),
        )
        async with self._reading.session() as session:
            found = as_rows(item, await session.execute(statement))
        by_key = {(row.provider_id, row.epoch_id): ProviderPayment.of(row) for row in found}
        return [by_key.get(key) for key in keys]

    async def _estimates(self, provider_ids: list[UUID]) -> list[PayoutEstimate]:
        """The marketplace's policy is read with its own rights; who asks has passed the field's rule."""
        found = []
        for provider_id in provider_ids:
            async with self._reading.trusted_session() as session:
                found.append(PayoutEstimate.of(await next_payout(session, provider_id)))
        return found
