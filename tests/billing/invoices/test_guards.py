"""The database itself refuses documents that change or lie, whoever writes."""

import psycopg
import pytest

from raymart_core.ids import new_id
from support.old_books import OldBooks, in_month, month_start

LAST, BEFORE = month_start(1), month_start(2)
FINALIZE = """
    update invoice set state = 'final', number = document_number_next('RM-2099'), buyer = '{}', seller = '{}',
           issued_at = clock_timestamp(), content_sha256 = sha256('x') where id = %s
"""
ONE_AGAIN = "RM-2099-000001"


class TestFinalInvoice:
    @pytest.fixture
    async def final(self, books: OldBooks):
        await books.deposit(1_000, at=in_month(LAST, days=1))
        await books.use(2, arrived=in_month(LAST), posted=in_month(LAST))
        return await books.invoice(LAST)

    async def test_does_not_change(self, books: OldBooks, final):
        for change in (
            "update invoice set closing_nano_usd = closing_nano_usd + 1 where id = %s",
            "update invoice set buyer = '{}' where id = %s",
            (
                "update invoice set state = 'draft', number = null, buyer = null, seller = null, issued_at = null,"
                " content_sha256 = null where id = %s"
            ),
            "update invoice set state = 'void', void_reason = 'r', voided_at = now(), number = 'RM-1' where id = %s",
            "delete from invoice where id = %s",
            "update invoice_line set amount_nano_usd = 0 where invoice_id = %s",
            "delete from invoice_line where invoice_id = %s",
            (
                "insert into invoice_line (id, invoice_id, position, kind, code, description, transfers, amount_nano_usd)"
                " select gen_random_uuid(), id, 99, 'grant', 'credit_grant', 'x', 1, 1 from invoice where id = %s"
            ),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await books.fetch(change, final.id)

    async def test_cannot_be_truncated(self, books: OldBooks):
        for table in ("invoice", "invoice_line", "credit_note", "credit_note_line", "refund"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await books.fetch(f"truncate {table} cascade")

    async def test_is_never_born_final(self, books: OldBooks):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await books.fetch(
                "insert into invoice (id, organization_id, state, asset, period_start, period_end, after_transfer_id,"
                " up_to_transfer_id, booked_until, opening_nano_usd, closing_nano_usd, charged_nano_usd, number, buyer,"
                " seller, content_sha256, issued_at) values (%s, %s, 'final', 'usd', '2026-01-01', '2026-02-01', 0, 0, now(),"
                " 0, 0, 0, 'RM-2026-999999', '{}', '{}', sha256('x'), now())",
                new_id(),
                books.organization_id,
            )

    async def test_void_does_not_come_back(self, books: OldBooks, final):
        await books.fetch(
            "update invoice set state = 'void', void_reason = 'r', voided_at = now() where id = %s", final.id
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await books.fetch(
                "update invoice set state = 'final', void_reason = null, voided_at = null where id = %s",
                final.id,
            )


class TestBecomingFinal:
    @pytest.fixture
    async def draft(self, books: OldBooks):
        await books.deposit(1_000, at=in_month(LAST, days=1))
        await books.use(2, arrived=in_month(LAST), posted=in_month(LAST))
        return await books.draft(LAST)

    async def refused(self, books: OldBooks, draft, change: str) -> str | None:
        async def finalize() -> None:
            async with books.pool.connection() as connection, connection.transaction():
                await connection.execute(change.encode(), [draft.id])
                await connection.execute(FINALIZE.encode(), [draft.id])

        with pytest.raises(psycopg.errors.CheckViolation) as caught:
            await finalize()
        return caught.value.diag.constraint_name

    async def test_as_it_was_drawn_up_it_may(self, books: OldBooks, draft):
        """The other tests of this class change one thing each."""
        await books.fetch(FINALIZE, draft.id)

    async def test_it_must_say_what_the_ledger_says(self, books: OldBooks, draft):
        """Each change is rolled back when it is refused."""
        for change, constraint in (
            (
                "update invoice set closing_nano_usd = closing_nano_usd + 1 where id = %s",
                "ck_invoice_lines_are_the_ledger",
            ),
            (
                "update invoice set charged_nano_usd = charged_nano_usd + 1 where id = %s",
                "ck_invoice_lines_are_the_ledger",
            ),
            (
                "delete from invoice_line where kind = 'deposit' and invoice_id = %s",
                "ck_invoice_lines_are_the_ledger",
            ),
            (
                "update invoice set up_to_transfer_id = up_to_transfer_id - 1 where id = %s",
                "ck_invoice_lines_are_the_ledger",
            ),
            (
                "update invoice set after_transfer_id = up_to_transfer_id where id = %s",
                "ck_invoice_joins_previous",
            ),
            ("update invoice set opening_nano_usd = 1 where id = %s", "ck_invoice_joins_previous"),
            (
                (
                    "update invoice set period_start = date_trunc('month', now()),"
                    " period_end = date_trunc('month', now()) + interval '1 month' where id = %s"
                ),
                "ck_invoice_period_is_over",
            ),
        ):
            assert await self.refused(books, draft, change) == constraint, change

    async def test_number_is_the_one_that_the_series_stands_at(self, books: OldBooks, draft):
        await books.value("select document_number_next('RM-2098')")
        with pytest.raises(psycopg.errors.CheckViolation, match="series stands at"):
            await books.fetch(
                FINALIZE.replace("document_number_next('RM-2099')", "'RM-2098-000007'"), draft.id
            )

    async def test_number_is_not_taken_twice(self, books: OldBooks, draft):
        await books.fetch(FINALIZE.replace("RM-2099", "RM-2097"), draft.id)
        await books.deposit(5, at=in_month(LAST, days=15))
        await books.fetch(
            "update invoice set state = 'void', void_reason = 'r', voided_at = now() where id = %s", draft.id
        )
        again = await books.draft(LAST)
        with pytest.raises(psycopg.errors.UniqueViolation):
            await books.fetch(
                FINALIZE.replace("document_number_next('RM-2099')", "'RM-2097-000001'"), again.id
            )


class TestLine:
    async def test_that_does_not_add_up_is_refused(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        draft = await books.draft(LAST)
        assert draft is not None
        for values in (
            "'usage', 'usage_charge', 'x', 1, '2026-01-01', gen_random_uuid(), 'token.prompt', 1, 10, 5, -51",
            "'usage', 'usage_charge', 'x', 1, '2026-01-01', gen_random_uuid(), 'token.prompt', 1, 10, 5, -49",
            "'usage', 'usage_charge', 'x', 1, '2026-01-01', gen_random_uuid(), 'token.prompt', 1, -10, 5, -50",
            "'usage', 'usage_charge', 'x', 1, '2026-01-01', null, 'token.prompt', 1, 10, 5, -50",
            "'deposit', 'deposit_card', 'x', 1, null, null, null, null, null, null, 0",
            "'deposit', 'deposit_card', 'x', 1, null, null, 'token.prompt', null, null, null, 5",
            "'deposit', 'deposit_card', 'x', 0, null, null, null, null, null, null, 5",
        ):
            with pytest.raises(psycopg.errors.CheckViolation):
                await books.fetch(
                    "insert into invoice_line (id, invoice_id, position, kind, code, description, transfers, usage_month,"
                    f" model_id, unit, scale, quantity, unit_price_nano_usd, amount_nano_usd) values (%s, %s, 5, {values})",
                    new_id(),
                    draft.id,
                )

    async def test_amount_beyond_a_bigint_is_refused(self, books: OldBooks):
        await books.deposit(5, at=in_month(LAST))
        draft = await books.draft(LAST)
        assert draft is not None
        for amount in ("'NaN'::numeric", "9223372036854775808", "1e30::float8"):
            with pytest.raises((psycopg.errors.NumericValueOutOfRange, psycopg.errors.FeatureNotSupported)):
                await books.fetch(
                    "insert into invoice_line (id, invoice_id, position, kind, code, description, transfers,"
                    f" amount_nano_usd) values (%s, %s, 5, 'deposit', 'deposit_card', 'x', 1, {amount})",
                    new_id(),
                    draft.id,
                )
