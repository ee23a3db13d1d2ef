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
