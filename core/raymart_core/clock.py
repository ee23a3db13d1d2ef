"""Time as a dependency, so that no test sleeps. All times are aware and in UTC."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. Money deadlines use the database's clock instead (ADR 0003)."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        return datetime.now(UTC)


def now() -> datetime:
    """The machine's present moment, aware, UTC."""
    return datetime.now(UTC)
