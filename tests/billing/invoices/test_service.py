"""Invoices say what the ledger says: month after month, without a gap and without a repeat."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from raymart_billing import invoices
from raymart_billing.invoices import InvoiceState, LineKind, Party
from raymart_billing.invoices.content import content_sha256, invoice_content
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope
from support.books import price
from support.old_books import SELLER, OldBooks, in_month, month_start

LAST, BEFORE, EARLIER = month_start(1), month_start(2), month_start(3)
BUYER = Party(
    legal_name="Acme AG", address="1 Road\nZug", country="CH", tax_id="CHE-1", email="a@acme.example"
)


class TestDraft:
    async def test_lines_are_usage_by_model_and_unit_and_what_else_moved(self, books: OldBooks):
        await books.deposit(10_000, at=in_month(LAST, days=1))
        await books.use(3, arrived=in_month(LAST), posted=in_month(LAST))
        invoice = await books.draft(LAST)
        assert invoice is not None
        assert invoice.number is None
        assert (invoice.opening_nano_usd, invoice.closing_nano_usd, invoice.charged_nano_usd) == (
            0,
            9_640,
            360,
        )
        lines = await books.lines(invoice)
        assert [
            (line.kind, line.unit, line.quantity, line.transfers, line.amount_nano_usd) for line in lines
        ] == [
            ("usage", "token.completion", 60, 3, -300),
            ("usage", "token.prompt", 30, 3, -60),
            ("deposit", None, None, 1, 10_000),
        ]

    async def test_quantities_of_every_unit_are_measured_and_priced_as_the_record_was(self, books: OldBooks):
        """A third of a nano-USD is dropped from each request: the line's amount is the sum of what was charged."""
        await books.deposit(10**9, at=in_month(LAST, days=1))
        request = books.request(in_month(LAST))
        assert request.usage is not None
        changed = {
            "gpu_ms": 333, "price_gpu_second": 10, "image_pixel_steps": 500_001, "price_megapixel_step": 7,
            "requests_priced": 1, "price_request": 11,
        }  # fmt: skip
        amount = price(request) + 333 * 10 // 1_000 + 500_001 * 7 // 1_000_000 + 11
        await books.record(request)
        await books.fetch(
            """update usage_record set gpu_ms = %s, price_gpu_second_nano_usd = %s, image_pixel_steps = %s,
                      price_megapixel_step_nano_usd = %s, requests_priced = %s, price_request_nano_usd = %s,
                      customer_nano_usd = %s, provider_nano_usd = %s - fee_nano_usd where id = %s""",
            *changed.values(), amount, amount, request.id,
        )  # fmt: skip
        await books.post(request, at=in_month(LAST))
        invoice = await books.invoice(LAST)
        usage = {line.unit: line for line in await books.lines(invoice) if line.unit}
        assert invoice.charged_nano_usd == amount
        assert (usage["gpu.second"].quantity, usage["gpu.second"].scale) == (333, 1_000)
        assert usage["gpu.second"].amount_nano_usd == -3
        assert usage["image.megapixel_step"].amount_nano_usd == -3
        assert usage["request"].amount_nano_usd == -11

    async def test_repeat_returns_the_living_invoice(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        first, second = await books.draft(LAST), await books.draft(LAST)
        assert first is not None
        assert second is not None
        assert first.id == second.id

    async def test_month_without_bookings_has_none(self, books: OldBooks):
        assert await books.draft(LAST) is None

    @pytest.mark.parametrize("day", [month_start(0), LAST + timedelta(days=1)])
    async def test_month_that_is_not_over_is_refused(self, books: OldBooks, day):
        with pytest.raises(InvalidRequest, match="month that is over"):
            await books.draft(day)

    async def test_unknown_customer_is_refused(self, books: OldBooks):
        books.organization_id = new_id()
        with pytest.raises(NotFound):
            await books.draft(LAST)

    async def test_next_month_waits_for_the_one_before(self, books: OldBooks):
        await books.deposit(5, at=in_month(BEFORE))
        draft = await books.draft(BEFORE)
        assert draft is not None
        await books.deposit(7, at=in_month(LAST))
        with pytest.raises(Conflict, match="month by month"):
            await books.draft(LAST)
        await books.finalize(draft)
        after = await books.draft(LAST)
        assert after is not None
        assert (after.opening_nano_usd, after.closing_nano_usd) == (5, 12)

    async def test_discarded_draft_can_be_drawn_up_again(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        draft = await books.draft(LAST)
        assert draft is not None
        async with session_scope(books.sessions) as session:
            await invoices.discard_draft(session, draft.id)
        again = await books.draft(LAST)
        assert again is not None
        assert again.id != draft.id

    async def test_usage_without_a_charge_is_refused_with_the_difference(self, books: OldBooks):
        """The tie-out: a record that claims to be posted while the ledger knows nothing of it."""
        await books.deposit(1_000, at=in_month(LAST, days=1))
        await books.use(1, arrived=in_month(LAST), posted=in_month(LAST))
        [stray] = await books.use(1, arrived=in_month(LAST))
        await books.fetch("update usage_record set posted_at = %s where id = %s", in_month(LAST), stray.id)
        with pytest.raises(Conflict, match=r"differ by 0\.000000120 USD"):
            await books.draft(LAST)

    async def test_charge_without_usage_is_refused_with_the_difference(self, books: OldBooks):
        await books.deposit(1_000, at=in_month(LAST, days=1))
        [request] = await books.use(1, arrived=in_month(LAST), posted=in_month(LAST))
        await books.fetch("delete from usage_record where id = %s", request.id)
        with pytest.raises(Conflict, match=r"differ by -0\.000000120 USD"):
            await books.draft(LAST)

    async def test_what_the_customer_could_not_pay_is_shown_and_not_charged(self, books: OldBooks):
        await books.deposit(300, at=in_month(LAST, days=1))
        await books.use(2, arrived=in_month(LAST), posted=in_month(LAST))
        request = books.request(in_month(LAST))
        async with books.pool.connection() as connection:
            from raymart_billing.records.copying import copy_requests

            await copy_requests(connection, [request], may_exist=False)
        await books.post(request, at=in_month(LAST))
        invoice = await books.invoice(LAST)
        lines = await books.lines(invoice)
        assert [line.amount_nano_usd for line in lines if line.kind is LineKind.USAGE_WAIVED] == [120]
        assert sum(line.amount_nano_usd for line in lines if line.unit) == -360
        assert (invoice.charged_nano_usd, invoice.closing_nano_usd) == (240, 60)


class TestMonthEnd:
    async def test_usage_posted_late_is_on_the_next_invoice(self, books: OldBooks):
        await books.deposit(10_000, at=in_month(BEFORE, days=1))
        await books.use(1, arrived=in_month(BEFORE), posted=in_month(BEFORE))
        late = await books.use(2, arrived=in_month(BEFORE))
        first = await books.invoice(BEFORE)
        await books.post(*late, at=in_month(LAST))
        await books.use(4, arrived=in_month(LAST), posted=in_month(LAST))
        second = await books.invoice(LAST)
        counted = [
            (line.usage_month, line.quantity)
            for line in await books.lines(second)
            if line.unit == "token.prompt"
        ]
        assert first.charged_nano_usd == 120
        assert counted == [(BEFORE, 20), (LAST, 40)]
        assert second.charged_nano_usd == 6 * 120

    async def test_usage_posted_very_late_is_found_further_back(self, books: OldBooks):
        """Beyond the months that are usually looked at: the sums differ at first, and all of the past is read."""
        await books.deposit(10_000, at=in_month(month_start(8), days=1))
        late = await books.use(1, arrived=in_month(month_start(8)))
        await books.invoice(month_start(8))
        await books.post(*late, at=in_month(LAST))
        invoice = await books.invoice(LAST)
        assert [line.usage_month for line in await books.lines(invoice) if line.unit] == [month_start(8)] * 2

    async def test_batch_on_the_stroke_of_midnight_is_in_one_month_whole(self, books: OldBooks):
        """Marked as posted before midnight, written after it: the books are cut a moment later."""
        await books.deposit(10_000, at=in_month(BEFORE, days=1))
        [request] = await books.use(1, arrived=in_month(BEFORE))
        await books.post(request, at=in_month(LAST, days=0, seconds=0.5))
        await books.fetch(
            "update usage_record set posted_at = %s where id = %s",
            in_month(LAST, days=0, seconds=-0.5),
            request.id,
        )
        invoice = await books.invoice(BEFORE)
        assert invoice.charged_nano_usd == 120
        assert invoice.booked_until == in_month(LAST, days=0, seconds=1)

    async def test_clock_that_went_back_loses_nothing(self, books: OldBooks):
        """Ranges are of ids: a transfer with an earlier time and a later id goes along, once."""
        await books.deposit(100, at=in_month(LAST, days=1))
        await books.deposit(10, at=in_month(BEFORE, days=20))
        first = await books.invoice(BEFORE)
        assert (first.opening_nano_usd, first.closing_nano_usd) == (0, 110)
        await books.deposit(1, at=in_month(LAST, days=3))
        second = await books.invoice(LAST)
        assert (second.opening_nano_usd, second.closing_nano_usd) == (110, 111)


class TestFinalize:
    async def test_parties_are_frozen(self, books: OldBooks):
        await books.deposit(5, at=in_month(BEFORE))
        async with session_scope(books.sessions) as session:
            await invoices.set_billing_profile(
                session, organization_id=books.organization_id, party=BUYER, actor_id=None
            )
        first = await books.invoice(BEFORE)
        async with session_scope(books.sessions) as session:
            await invoices.set_billing_profile(
                session,
                organization_id=books.organization_id,
                party=replace(BUYER, legal_name="Acme Holding AG"),
                actor_id=None,
            )
        await books.deposit(5, at=in_month(LAST))
        second = await books.invoice(LAST)
        async with session_scope(books.sessions) as session:
            kept = await session.get_one(invoices.Invoice, first.id)
        assert kept.buyer == BUYER.frozen()
        assert kept.seller == SELLER.frozen()
        assert second.buyer == BUYER.frozen() | {"legal_name": "Acme Holding AG"}

    async def test_customer_without_a_profile_is_named(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        invoice = await books.invoice(LAST)
        assert invoice.buyer is not None
        assert invoice.buyer["legal_name"].startswith("Customer ")

    async def test_hash_is_of_what_is_stored(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        await books.use(1, arrived=in_month(LAST), posted=None, delivered=False)
        finalized = await books.invoice(LAST)
        async with session_scope(books.sessions) as session:
            stored = await session.get_one(invoices.Invoice, finalized.id)
            lines = await invoices.invoice_lines(session, finalized.id)
        assert stored.content_sha256 == content_sha256(invoice_content(stored, lines))
        changed = invoice_content(stored, lines) | {"closing": 6}
        assert stored.content_sha256 != content_sha256(changed)

    async def test_repeat_changes_nothing(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        first = await books.invoice(LAST)
        again = await books.finalize(first)
        assert (again.number, again.issued_at) == (first.number, first.issued_at)

    async def test_six_finalizers_of_one_draft_take_one_number(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        draft = await books.draft(LAST)
        assert draft is not None
        before = await last_number(books)
        numbers = {done.number for done in await asyncio.gather(*(books.finalize(draft) for _ in range(6)))}
        assert len(numbers) == 1
        assert await last_number(books) == before + 1

    async def test_many_customers_at_once_leave_no_gap(self, books: OldBooks, pool, sessions):
        before = await last_number(books)
        customers = [await OldBooks(pool, sessions).found() for _ in range(5)]
        for customer in customers:
            await customer.deposit(5, at=in_month(LAST))
        done = await asyncio.gather(*(customer.invoice(LAST) for customer in customers))
        numbers = sorted(int(invoice.number.rpartition("-")[2]) for invoice in done)
        assert numbers == list(range(before + 1, before + 6))

    async def test_number_of_a_transaction_that_failed_is_given_again(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        draft = await books.draft(LAST)
        assert draft is not None
        before = await last_number(books)

        async def fail() -> None:
            async with session_scope(books.sessions) as session:
                await invoices.finalize_invoice(session, draft.id, seller=SELLER, actor_id=None)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        invoice = await books.finalize(draft)
        assert invoice.number.endswith(f"-{before + 1:06}")

    async def test_draft_whose_lines_left_the_ledger_is_refused(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        draft = await books.draft(LAST)
        assert draft is not None
        await books.fetch(
            "insert into invoice_line (id, invoice_id, position, kind, code, description, transfers, amount_nano_usd)"
            " values (%s, %s, 9, 'grant', 'credit_grant', 'a present', 1, 1)",
            new_id(),
            draft.id,
        )
        with pytest.raises(Conflict, match=r"by 6 .* the ledger by 5"):
            await books.finalize(draft)

    async def test_unknown_invoice_is_not_found(self, books: OldBooks):
        async with session_scope(books.sessions) as session:
            with pytest.raises(NotFound):
                await invoices.finalize_invoice(session, new_id(), seller=SELLER, actor_id=None)


class TestVoid:
    async def test_month_is_drawn_up_again_under_a_new_number(self, books: OldBooks):
        await books.deposit(1_000, at=in_month(LAST, days=1))
        await books.use(2, arrived=in_month(LAST), posted=in_month(LAST))
        first = await books.invoice(LAST)
        async with session_scope(books.sessions) as session:
            void = await invoices.void_invoice(session, first.id, reason=" Wrong  buyer ", actor_id=None)
        assert (void.state, void.void_reason, void.number) == (InvoiceState.VOID, "Wrong buyer", first.number)
        second = await books.invoice(LAST)
        assert second.number > first.number
        assert second.charged_nano_usd == first.charged_nano_usd
        assert [line.amount_nano_usd for line in await books.lines(second)] == [
            line.amount_nano_usd for line in await books.lines(first)
        ]

    async def test_older_invoice_stays(self, books: OldBooks):
        await books.deposit(5, at=in_month(BEFORE))
        first = await books.invoice(BEFORE)
        await books.deposit(5, at=in_month(LAST))
        await books.invoice(LAST)
        async with session_scope(books.sessions) as session:
            with pytest.raises(Conflict, match="credit note"):
                await invoices.void_invoice(session, first.id, reason="why not", actor_id=None)

    async def test_reason_is_needed(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        invoice = await books.invoice(LAST)
        for reason in ("", "  ", "x" * 501):
            async with session_scope(books.sessions) as session:
                with pytest.raises(InvalidRequest, match="reason"):
                    await invoices.void_invoice(session, invoice.id, reason=reason, actor_id=None)

    async def test_draft_has_nothing_to_void(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        draft = await books.draft(LAST)
        assert draft is not None
        async with session_scope(books.sessions) as session:
            with pytest.raises(Conflict, match="discard"):
                await invoices.void_invoice(session, draft.id, reason="r", actor_id=None)


async def last_number(books: OldBooks) -> int:
    async with session_scope(books.sessions) as session:
        found = await session.scalar(
            text("select coalesce(max(last_number), 0) from document_series where series like 'RM-%'")
        )
    return int(found)
