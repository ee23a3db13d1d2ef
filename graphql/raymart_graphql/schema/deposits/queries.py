"""What administrators look at: disputes, payments held for review, and events of the card processor."""

import strawberry

from raymart_billing.deposits import models
from raymart_graphql.context import Info
from raymart_graphql.fields import listed
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.deposits.types import Deposit, Dispute, ProcessorEvent

DISPUTES = Listing(
    name="disputes", entity=models.Dispute, key=models.Dispute.id, show=Dispute.of, newest_first=True
)
HELD_DEPOSITS = Listing(
    name="held_deposits",
    entity=models.Deposit,
    key=models.Deposit.id,
    show=Deposit.of,
    where=(models.Deposit.held_reason.is_not(None),),
)
EVENTS_IN_REVIEW = Listing(
    name="events_in_review",
    entity=models.StripeEvent,
    key=models.StripeEvent.id,
    show=ProcessorEvent.of,
    where=(models.StripeEvent.state == models.EventState.REVIEW,),
)


@strawberry.type
class DepositQuery:
    """Root fields of the domain."""

    @listed("Every dispute, newest first. For administrators.")
    async def disputes(self, info: Info, page: Page) -> Connection[Dispute]:
        """Disputes by id."""
        async with info.context.reading.session() as session:
            return await page_of(session, DISPUTES, page)

    @listed("Payments that are not what was asked and wait for a decision, oldest first. For administrators.")
    async def held_deposits(self, info: Info, page: Page) -> Connection[Deposit]:
        """Held deposits by id."""
        async with info.context.reading.session() as session:
            return await page_of(session, HELD_DEPOSITS, page)

    @listed("Events of the card processor that wait for a person. For administrators.")
    async def stripe_events_in_review(self, info: Info, page: Page) -> Connection[ProcessorEvent]:
        """Events by the processor's id."""
        async with info.context.reading.session() as session:
            return await page_of(session, EVENTS_IN_REVIEW, page)
