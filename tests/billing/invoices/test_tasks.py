"""Month-end: what is due is found from the rows, drawn up once, and made final after the grace period."""

from datetime import timedelta

import pytest

from raymart_billing.invoices.due import DueDraft, due_drafts, due_drafts_to_finalize
from raymart_billing.invoices.tasks import PERIODICS, TASKS
from raymart_billing.work.registry import collect
from raymart_marketplace.db.session import session_scope
from support.background import running_worker
from support.old_books import OldBooks, in_month, month_start, old_books_url

LAST, BEFORE, EARLIER = month_start(1), month_start(2), month_start(3)


__all__ = ["old_books_url"]


@pytest.fixture(scope="session")
def database_url(old_books_url: str) -> str:
    """A database of this file's own: a worker would draw up the months of all other tests' customers too."""
    return old_books_url


async def due_of(books: OldBooks) -> list[DueDraft]:
    async with session_scope(books.sessions) as session:
        return [due for due in await due_drafts(session) if due.organization_id == books.organization_id]


async def drafts_due(books: OldBooks, grace: timedelta) -> set:
    async with session_scope(books.sessions) as session:
        return set(await due_drafts_to_finalize(session, grace=grace))


class TestDueDrafts:
    async def test_oldest_month_with_bookings_comes_first(self, books: OldBooks):
        await books.deposit(5, at=in_month(EARLIER))
        await books.deposit(5, at=in_month(LAST))
        assert await due_of(books) == [DueDraft(organization_id=books.organization_id, period_start=EARLIER)]
        await books.invoice(EARLIER)
        assert [due.period_start for due in await due_of(books)] == [LAST]
        await books.invoice(LAST)
        assert await due_of(books) == []

    async def test_month_that_runs_is_not_due(self, books: OldBooks):
        await books.deposit(5)
        assert await due_of(books) == []

    async def test_customer_with_a_draft_is_not_due(self, books: OldBooks):
        await books.deposit(5, at=in_month(BEFORE))
        await books.draft(BEFORE)
        await books.deposit(5, at=in_month(LAST))
        assert await due_of(books) == []

    async def test_month_of_a_voided_invoice_is_due_again(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        invoice = await books.invoice(LAST)
        await books.fetch(
            "update invoice set state = 'void', void_reason = 'r', voided_at = now() where id = %s",
            invoice.id,
        )
        assert [due.period_start for due in await due_of(books)] == [LAST]

    async def test_booking_with_an_older_time_does_not_stop_the_next_month(self, books: OldBooks):
        await books.deposit(5, at=in_month(BEFORE))
        await books.invoice(BEFORE)
        await books.deposit(5, at=in_month(EARLIER))
        assert [due.period_start for due in await due_of(books)] == [LAST]

    @pytest.mark.parametrize(("grace", "due"), [(timedelta(0), True), (timedelta(days=1), False)])
    async def test_draft_waits_for_the_grace_period(self, books: OldBooks, grace, due):
        await books.deposit(5, at=in_month(LAST))
        draft = await books.draft(LAST)
        assert draft is not None
        assert (draft.id in await drafts_due(books, grace)) is due


class TestTasks:
    async def test_a_month_goes_from_bookings_to_a_final_invoice(self, database_url, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        async with running_worker(
            database_url, tasks=TASKS, periodics=PERIODICS, invoice_grace_s=0, seller_legal_name="The House"
        ) as worker:
            for _ in range(3):
                await worker.drain()
                await books.fetch(
                    "update periodic_job set next_due_at = clock_timestamp() where name like 'invoices.%%'"
                )
        found = await books.fetch(
            "select state, seller->>'legal_name' from invoice where organization_id = %s",
            books.organization_id,
        )
        assert found == [("final", "The House")]
        asked = await books.fetch(
            "select task, state from outbox where subject like %s or subject in ("
            "select id::text from invoice where organization_id = %s) order by id",
            f"{books.organization_id}:%",
            books.organization_id,
        )
        assert asked == [("invoices.draft", "done"), ("invoices.finalize", "done")]

    async def test_a_month_that_does_not_tie_out_is_tried_again_and_says_why(
        self, database_url, books: OldBooks
    ):
        await books.deposit(500, at=in_month(LAST, days=1))
        [stray] = await books.use(1, arrived=in_month(LAST))
        await books.fetch("update usage_record set posted_at = %s where id = %s", in_month(LAST), stray.id)
        async with running_worker(database_url, tasks=TASKS, periodics=PERIODICS) as worker:
            await books.fetch(
                "update periodic_job set next_due_at = clock_timestamp() where name like 'invoices.%%'"
            )
            await worker.drain()
        [(state, error)] = await books.fetch(
            "select state, last_error from outbox where subject like %s", f"{books.organization_id}:%"
        )
        assert state == "ready"
        assert "differ by 0.000000120 USD" in error

    def test_they_are_registered(self):
        declared = collect()
        assert {"invoices.draft", "invoices.finalize"} <= {task.name for task in declared.tasks}
        assert {"invoices.ask_for_drafts", "invoices.ask_for_finals", "refunds.by_rule"} <= {
            periodic.name for periodic in declared.periodics
        }
