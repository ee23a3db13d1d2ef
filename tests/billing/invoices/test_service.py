"""Invoices say what the ledger says: month after month, without a gap and without a repeat."""

from support.old_books import OldBooks, in_month, month_start

LAST, BEFORE = month_start(1), month_start(2)


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
        assert [(line.kind, line.unit, line.quantity, line.amount_nano_usd) for line in lines] == [
            ("usage", "token.completion", 60, -300),
            ("usage", "token.prompt", 30, -60),
            ("deposit", None, None, 10_000),
        ]
