"""How long to wait before dialling again: exponential with full jitter.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: a delay uniform in
[0, min(longest, first * 2**attempt)] spreads a crowd of reconnecting clients best.
"""

import random


class Backoff:
    """Delays that grow with each failure until `reset`."""

    def __init__(self, *, first_s: float = 0.25, longest_s: float = 15.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self.failures = 0

    def next_s(self) -> float:
        """The next delay, in seconds."""
        # The exponent is capped before the power, or days of failures would overflow a float.
        bound_s = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return random.uniform(0, bound_s)  # noqa: S311  # spreads load; guards nothing

    def reset(self) -> None:
        """Start over: the last attempt was good."""
        self.failures = 0
