"""Rating: from quantities and prices to money, as pure functions."""

from raymart_billing.rating.unit_rater import ChargeLine, UnitRater, lines_of

__all__ = ["ChargeLine", "UnitRater", "lines_of"]
