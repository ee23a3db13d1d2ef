"""Rating: from counts and prices to money, as pure functions."""

from raymart_billing.rating.token_rater import TokenRater

__all__ = ["TokenRater"]
