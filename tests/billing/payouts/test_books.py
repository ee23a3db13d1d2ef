"""What the signer learns of the database before it signs."""

from datetime import timedelta
from uuid import UUID

from raymart_billing.payouts.books import DatabaseBooks
from raymart_marketplace.db.session import Sessions
from support.payout_batches import PayoutBatches, address

DAY = timedelta(days=1)


async def part(batches: PayoutBatches, *amounts: int, marker: str | None = None) -> UUID:
    """The part of an approved batch."""
    batch = await batches.batch(*amounts)
    await batches.approve(batch)
    part_id = await batches.value("select id from payout_part where batch_id = %s", batch.id)
    await batches.fetch("update payout_part set marker = %s where id = %s", marker or address(), part_id)
    return part_id


class TestSignedMicroUsdc:
    async def test_each_part_with_an_attempt_counts_once(
        self, sessions: Sessions, batches: PayoutBatches
    ) -> None:
        books = DatabaseBooks(sessions)
        before = await books.signed_micro_usdc(within=DAY, except_markers=[])
        first = await part(batches, 100, 20)
        await part(batches, 7_000)
        await batches.attempt(first)
        await batches.attempt(first, number=2)
        assert await books.signed_micro_usdc(within=DAY, except_markers=[]) - before == 120

    async def test_the_markers_that_are_asked_to_be_left_out_are(
        self, sessions: Sessions, batches: PayoutBatches
    ) -> None:
        books, marker = DatabaseBooks(sessions), address()
        before = await books.signed_micro_usdc(within=DAY, except_markers=[marker])
        await batches.attempt(await part(batches, 100, marker=marker))
        assert await books.signed_micro_usdc(within=DAY, except_markers=[marker]) == before
        assert await books.signed_micro_usdc(within=DAY, except_markers=[address()]) - before == 100

    async def test_what_was_signed_before_the_day_does_not_count(
        self, sessions: Sessions, batches: PayoutBatches
    ) -> None:
        await batches.attempt(await part(batches, 100))
        assert await DatabaseBooks(sessions).signed_micro_usdc(within=timedelta(0), except_markers=[]) == 0


class TestReclaimable:
    async def finalized(self, batches: PayoutBatches, marker: str) -> UUID:
        part_id = await part(batches, 100, marker=marker)
        await batches.attempt(part_id)
        for state in ("signed", "submitted", "finalized"):
            await batches.fetch(
                "update payout_part set state = %s, signature = %s, slot = 1, fee_lamports = 5000,"
                " finalized_at = case when %s = 'finalized' then clock_timestamp() end where id = %s",
                state,
                address() * 2,
                state,
                part_id,
            )
        return part_id

    async def test_only_what_has_been_final_for_long_enough(
        self, sessions: Sessions, batches: PayoutBatches
    ) -> None:
        final, live, unknown = address(), address(), address()
        part_id = await self.finalized(batches, final)
        await part(batches, 5, marker=live)
        asked = [final, live, unknown]
        at_once = DatabaseBooks(sessions, retention=timedelta(0))
        assert await at_once.reclaimable(asked) == {final}
        assert await DatabaseBooks(sessions, retention=timedelta(minutes=5)).reclaimable(asked) == set()
        await batches.fetch(
            "update payout_part set marker_reclaimed_at = clock_timestamp() where id = %s", part_id
        )
        assert await at_once.reclaimable(asked) == set()
