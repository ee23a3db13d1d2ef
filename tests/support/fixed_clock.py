"""A clock that a test moves by hand."""

from datetime import UTC, datetime, timedelta


class FixedClock:
    """Stands still until `advance`."""

    def __init__(self, at: datetime = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)) -> None:
        self._at = at

    def now(self) -> datetime:
        """Where the hands are."""
        return self._at

    def advance(self, *, seconds: float) -> None:
        """Move on."""
        self._at += timedelta(seconds=seconds)


class Hand:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        """Seconds that never go back, if the test keeps to it."""
        return self.at
