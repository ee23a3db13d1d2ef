"""Loaders of payouts for administrators."""

from uuid import UUID

from sqlalchemy import select
from strawberry.dataloader import DataLoader

from raymart_billing.payouts import models as rows
from raymart_billing.payouts.facts import facts_of
from raymart_billing.payouts.outliers import ItemFacts
from raymart_billing.payouts.policy import Rules, present_rules
from raymart_graphql.keyset import Listing, as_rows
from raymart_graphql.loading import LoaderPart, each_of
from raymart_graphql.reading import Reading
from raymart_graphql.schema.payouts.sending_types import PayoutAttempt, PayoutPart
from raymart_graphql.schema.payouts.types import PayoutApproval, PayoutBatch, PayoutEpoch, PayoutItem

ITEMS = Listing(name="payout_items", entity=rows.PayoutItem, key=rows.PayoutItem.position, show=PayoutItem.of)
PARTS = Listing(name="payout_parts", entity=rows.PayoutPart, key=rows.PayoutPart.position, show=PayoutPart.of)


class PayoutLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.batch = self._known(rows.PayoutBatch, PayoutBatch.of)
        self.epoch = self._known(rows.Epoch, PayoutEpoch.of)
        self.items_of_batch = self._pages(ITEMS, rows.PayoutItem.batch_id)
        self.parts_of_batch = self._pages(PARTS, rows.PayoutPart.batch_id)
        self.attempts_of_part = self._few(rows.PayoutAttempt, rows.PayoutAttempt.part_id, PayoutAttempt.of)
        self.approvals_of_batch: DataLoader[UUID, list[PayoutApproval]] = DataLoader(load_fn=self._approvals)
        self.facts_of_item: DataLoader[UUID, ItemFacts] = DataLoader(load_fn=self._facts)
        self._rules: DataLoader[None, Rules] = DataLoader(load_fn=self._present_rules)

    async def rules(self) -> Rules:
        """The rules that hold now, read once."""
        return await self._rules.load(None)

    async def _approvals(self, batch_ids: list[UUID]) -> list[list[PayoutApproval]]:
        approval = rows.PayoutApproval
        statement = (
            select(approval.__table__)
            .where(approval.batch_id == each_of(approval.batch_id, batch_ids))
            .order_by(approval.decided_at)
        )
        found: dict[UUID, list[PayoutApproval]] = {batch_id: [] for batch_id in batch_ids}
        async with self._reading.session() as session:
            for row in as_rows(approval, await session.execute(statement)):
                found[row.batch_id].append(PayoutApproval.of(row))
        return [found[batch_id] for batch_id in batch_ids]

    async def _facts(self, item_ids: list[UUID]) -> list[ItemFacts]:
        async with self._reading.session() as session:
            found = await facts_of(session, item_ids)
        return [found[item_id] for item_id in item_ids]

    async def _present_rules(self, asked: list[None]) -> list[Rules]:
        async with self._reading.session() as session:
            return [await present_rules(session)] * len(asked)
