"""The CSV has every line with all its digits, and nothing that a spreadsheet would run."""

import csv
import io
from decimal import Decimal

from raymart_billing.invoices.csv_export import COLUMNS, invoice_csv
from support.sample_invoice import sample_invoice


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


class TestCsv:
    def test_lines_lead_from_the_opening_to_the_closing_balance(self):
        invoice, lines = sample_invoice(200)
        rows = rows_of(invoice_csv(invoice, lines))
        assert tuple(rows[0]) == COLUMNS
        first, *between, last = (Decimal(row["amount_usd"]) for row in rows)
        assert len(between) == len(lines)
        assert first + sum(between) == last

    def test_amounts_have_all_nine_places(self):
        invoice, lines = sample_invoice()
        amount = rows_of(invoice_csv(invoice, lines))[1]["amount_usd"]
        assert amount == "-114.285851780"

    def test_quantity_times_price_is_the_amount(self):
        invoice, lines = sample_invoice()
        for row in rows_of(invoice_csv(invoice, lines))[1:5]:
            exact = Decimal(row["quantity"]) / Decimal(row["scale"]) * Decimal(row["unit_price_usd"])
            assert 0 <= exact + Decimal(row["amount_usd"]) < Decimal("0.000000001") * int(row["count"])

    def test_formula_is_disarmed(self):
        invoice, lines = sample_invoice(model='=HYPERLINK("http://x")')
        assert rows_of(invoice_csv(invoice, lines))[1]["description"].startswith("'=HYPERLINK")

    def test_quotes_commas_and_line_ends_survive(self):
        invoice, lines = sample_invoice(model='a,"b"\r\nc')
        assert rows_of(invoice_csv(invoice, lines))[1]["description"].startswith('a,"b"\r\nc: ')
