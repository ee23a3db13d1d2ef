"""Amounts as people read them: nothing is hidden by a rounding that is not named."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from raymart_billing.invoices.figures import (
    MINUS,
    day_text,
    exact,
    price_text,
    quantity_text,
    rounded_half_even,
)
from raymart_billing.invoices.sheet import invoice_sheet
from raymart_core.units import Unit
from support.sample_invoice import sample_invoice

NANO = 10**9


class TestAmounts:
    @pytest.mark.parametrize(
        ("nano_usd", "shown", "all_digits"),
        [
            (0, "0.00", None),
            (1, "0.00", "0.000000001"),
            (5_000_000, "0.00", "0.005000000"),
            (15_000_000, "0.02", "0.015000000"),
            (25_000_000, "0.02", "0.025000000"),
            (1_234_567 * NANO + 500_000_000, "1,234,567.50", None),
            (-12_300_000_001, f"{MINUS}12.30", f"{MINUS}12.300000001"),
            (2**63 - 1, "9,223,372,036.85", "9,223,372,036.854775807"),
        ],
    )  # fmt: skip
    def test_cents_are_rounded_half_to_even_and_the_rest_is_told(self, nano_usd, shown, all_digits):
        assert (rounded_half_even(nano_usd), exact(nano_usd)) == (shown, all_digits)

    @pytest.mark.parametrize(
        ("quantity", "scale", "shown"),
        [(1_234_567, 1, "1,234,567"), (262_144, 1_000_000, "0.262144"), (1_500, 1_000, "1.5"), (7, 1_000, "0.007"), (2_000, 1_000, "2")],
    )  # fmt: skip
    def test_quantities_are_in_units_with_all_digits(self, quantity, scale, shown):
        assert quantity_text(quantity, scale) == shown

    @pytest.mark.parametrize(
        ("nano_usd", "unit", "shown"),
        [
            (200, Unit.TOKEN_PROMPT, ("0.20", "per million")),
            (45, Unit.TOKEN_CACHED, ("0.045", "per million")),
            (41_500, Unit.IMAGE_MEGAPIXEL_STEP, ("0.0000415", "per megapixel-step")),
            (2**63 - 1, Unit.TOKEN_COMPLETION, ("9,223,372,036,854,775.807", "per million")),
        ],
    )
    def test_prices_are_exact(self, nano_usd, unit, shown):
        assert price_text(nano_usd, unit) == shown

    def test_days_are_utc(self):
        late = datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2)))
        assert day_text(late) == "30 November 2026"
        assert day_text(date(2026, 3, 4)) == "4 March 2026"
        assert day_text(datetime(2026, 3, 4, tzinfo=UTC)) == "4 March 2026"


class TestSheet:
    def test_sums_are_of_the_exact_amounts(self):
        invoice, lines = sample_invoice(40)
        sheet = invoice_sheet(invoice, lines, [])
        assert sheet.summary["amount"] == rounded_half_even(invoice.charged_nano_usd)
        shown = {row["name"]: row["amount"].exact or row["amount"].shown for row in sheet.balance}
        digits = {name: float(text.replace(",", "").replace(MINUS, "-")) for name, text in shown.items()}
        closing = digits.pop("Closing balance")
        assert closing == pytest.approx(sum(digits.values()), abs=1e-6)
