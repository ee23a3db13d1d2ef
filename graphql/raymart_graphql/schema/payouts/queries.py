"""Payouts for administrators: the queue, one batch, drill-down to usage, who is not paid, the rules."""

from typing import Annotated

import strawberry
from sqlalchemy import ColumnElement, select

from raymart_billing.ledger.models import Transfer
from raymart_billing.payouts import models
from raymart_billing.payouts.drill_down import usage_listing_of, usage_of
from raymart_billing.payouts.policy import present_policy
from raymart_billing.payouts.policy_models import PayoutPolicy as PolicyRow
from raymart_billing.payouts.policy_models import PayoutSwitch
from raymart_graphql.context import Info
from raymart_graphql.fields import listed, resolved
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.scalars import BigInt, Money
from raymart_graphql.schema.payouts.enums import BatchKind, BatchState, UnpaidReason
from raymart_graphql.schema.payouts.rule_types import PayoutPolicy, PayoutStop
from raymart_graphql.schema.payouts.types import PaidUsage, PayoutBatch, PayoutEpoch, UnpaidEarning

OfState = Annotated[BatchState | None, strawberry.argument(description="Only those that stand so.")]
OfKind = Annotated[BatchKind | None, strawberry.argument(description="Only of this kind.")]
Number = Annotated[BigInt, strawberry.argument(description="The batch's number.")]
Position = Annotated[int, strawberry.argument(description="The payee's place in the batch.")]
EpochNumber = Annotated[BigInt | None, strawberry.argument(description="Only of this epoch; null for all.")]
OfReason = Annotated[UnpaidReason | None, strawberry.argument(description="Only for this reason.")]
Standing = Annotated[
    bool | None,
    strawberry.argument(description="True: those that stand; false: those that ended; null: both."),
]


@strawberry.type
class PayoutQuery:
    """Root fields of the domain."""

    @listed("Batches of payouts, newest first. For administrators.")
    async def payout_batches(
        self, info: Info, page: Page, state: OfState = None, kind: OfKind = None
    ) -> Connection[PayoutBatch]:
        """By number."""
        row = models.PayoutBatch
        where: list[ColumnElement[bool]] = []
        if state is not None:
            where.append(row.state == state)
        if kind is not None:
            where.append(row.kind == kind)
        listing = Listing(
            name="payout_batches",
            entity=row,
            key=row.number,
            show=PayoutBatch.of,
            newest_first=True,
            where=tuple(where),
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @resolved("One batch of payouts; null when there is none of this number. For administrators.")
    async def payout_batch(self, info: Info, number: Number) -> PayoutBatch | None:
        """By number."""
        async with info.context.reading.session() as session:
            row = await session.scalar(select(models.PayoutBatch).where(models.PayoutBatch.number == number))
        return None if row is None else PayoutBatch.of(row)

    @listed(
        "The usage that a payee of a batch is paid for, of the batch's own epoch, newest first; what was carried over"
        " from earlier epochs is with theirs. For administrators."
    )
    async def payout_item_usage(
        self, info: Info, page: Page, batch: Number, position: Position
    ) -> Connection[PaidUsage]:
        """Transfers of the earning's range, by id."""
        async with info.context.reading.session() as session:
            where = await usage_listing_of(session, batch_number=batch, position=position)
            listing = Listing(
                name="payout_item_usage",
                entity=Transfer,
                key=Transfer.id,
                show=_paid_usage,
                newest_first=True,
                where=where,
            )
            return await page_of(session, listing, page)

    @listed("Earnings that the last planning left out, with the reason, newest first. For administrators.")
    async def unpaid_earnings(
        self, info: Info, page: Page, epoch: EpochNumber = None, reason: OfReason = None
    ) -> Connection[UnpaidEarning]:
        """By id."""
        row = models.Earning
        where: list[ColumnElement[bool]] = [row.unpaid_reason.is_not(None)]
        if reason is not None:
            where.append(row.unpaid_reason == reason)
        if epoch is not None:
            of_epoch = select(models.Epoch.id).where(models.Epoch.number == epoch)
            where.append(row.epoch_id == of_epoch.scalar_subquery())
        listing = Listing(
            name="unpaid_earnings",
            entity=row,
            key=row.id,
            show=UnpaidEarning.of,
            newest_first=True,
            where=tuple(where),
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @listed("Epochs that are over, newest first. For administrators.")
    async def payout_epochs(self, info: Info, page: Page) -> Connection[PayoutEpoch]:
        """By number."""
        listing = Listing(
            name="payout_epochs",
            entity=models.Epoch,
            key=models.Epoch.number,
            show=PayoutEpoch.of,
            newest_first=True,
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @resolved("The rules of payouts that hold now. For administrators.")
    async def payout_policy(self, info: Info) -> PayoutPolicy:
        """The newest version."""
        async with info.context.reading.session() as session:
            return PayoutPolicy.of(await present_policy(session))

    @listed("Every version of the rules of payouts, newest first. For administrators.")
    async def payout_policies(self, info: Info, page: Page) -> Connection[PayoutPolicy]:
        """By version."""
        listing = Listing(
            name="payout_policies",
            entity=PolicyRow,
            key=PolicyRow.version,
            show=PayoutPolicy.of,
            newest_first=True,
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @listed("What stops or stopped payouts, newest first. For administrators.")
    async def payout_stops(
        self, info: Info, page: Page, *, standing: Standing = True
    ) -> Connection[PayoutStop]:
        """By id."""
        row = PayoutSwitch
        where: tuple[ColumnElement[bool], ...] = ()
        if standing is not None:
            where = (row.resumed_at.is_(None) if standing else row.resumed_at.is_not(None),)
        listing = Listing(
            name="payout_stops", entity=row, key=row.id, show=PayoutStop.of, newest_first=True, where=where
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)


def _paid_usage(row: Transfer) -> PaidUsage:
    return PaidUsage(
        usage_uuid=usage_of(row.key), amount=Money.of_nano_usd(row.amount), booked_at=row.created_at
    )
