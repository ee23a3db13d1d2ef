"""A property: whatever happened, the invoices of all months together are the ledger and the usage, once each."""

import asyncio
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from raymart_billing.invoices import Invoice, InvoiceLine
from raymart_marketplace.db.session import session_scope
from support.old_books import OldBooks, in_month, month_start

MONTHS = [month_start(back) for back in (4, 3, 2, 1)]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["deposit", "use", "leave", "post", "straddle"]),
        st.integers(min_value=1, max_value=3),
    ),
    max_size=5,
)


class TestEveryMonth:
    @given(months=st.lists(EVENTS, min_size=len(MONTHS), max_size=len(MONTHS)))
    @settings(
        max_examples=5,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    async def test_lines_sum_to_the_balance_and_count_each_request_once(self, pool, sessions, months):
        books = await OldBooks(pool, sessions).found()
        left: list = []
        await books.deposit(1_000_000, at=in_month(MONTHS[0], days=0))
        for month, events in zip(MONTHS, months, strict=True):
            for day, (event, count) in enumerate(events, start=1):
                await happen(books, left, event, count, at=in_month(month, days=day))
            await books.draft(month)
            draft = await books.draft(month)
            if draft:
                await asyncio.gather(books.finalize(draft), books.finalize(draft))
        # What is unposted yet is billed by the last one.
        async with session_scope(sessions) as session:
            found = (await session.scalars(invoices_of(books))).all()
            lines = (
                await session.scalars(
                    select(InvoiceLine).where(InvoiceLine.invoice_id.in_([each.id for each in found]))
                )
            ).all()
        balance = (await books.columns("customer_balance")).balance
        assert sum(line.amount_nano_usd for line in lines) == balance
        assert [each.opening_nano_usd for each in found[1:]] == [each.closing_nano_usd for each in found[:-1]]
        assert found[-1].closing_nano_usd == balance
        posted = await books.value(
            "select coalesce(sum(tokens_completion), 0) from usage_record"
            " where organization_id = %s and posted_at is not null",
            books.organization_id,
        )
        assert posted == sum(line.quantity for line in lines if line.unit == "token.completion")


async def happen(books: OldBooks, left: list, event: str, count: int, *, at) -> None:
    """One event of a customer's life, at a time of its month."""
    if event == "deposit":
        await books.deposit(1_000 * count, at=at)
    elif event == "use":
        await books.use(count, arrived=at, posted=at)
    elif event == "leave":
        left += await books.use(count, arrived=at)
    elif event == "post" and left:
        taken, left[:] = left[:count], left[count:]
        await books.post(*taken, at=at)
    elif event == "straddle":
        # Marked before the month's end and written after it.
        month_end = in_month((at.date().replace(day=1) + timedelta(days=32)).replace(day=1), days=0)
        [request] = await books.use(1, arrived=at, posted=month_end + timedelta(seconds=0.4))
        await books.fetch(
            "update usage_record set posted_at = %s where id = %s",
            month_end - timedelta(seconds=0.4),
            request.id,
        )


def invoices_of(books: OldBooks):
    return (
        select(Invoice).where(Invoice.organization_id == books.organization_id).order_by(Invoice.period_start)
    )
