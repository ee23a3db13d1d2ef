"""Hours of the week in UTC: when a window is open, and when that changes next. Pure functions; UTC knows no DST."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

MINUTES_OF_DAY = 1_440
MINUTES_OF_WEEK = 7 * MINUTES_OF_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """The same hours on each of `days`; over midnight when `ends_minute` is not after `starts_minute`."""

    days: frozenset[int]
    """1 (Monday) to 7 (Sunday): the days on which they start."""
    starts_minute: int
    """Minutes after midnight UTC, 0 to 1,439, inclusive."""
    ends_minute: int
    """1 to 1,440, exclusive."""

    @property
    def length(self) -> int:
        """Minutes from start to end, less than a day."""
        return (self.ends_minute - self.starts_minute) % MINUTES_OF_DAY or MINUTES_OF_DAY

    def __str__(self) -> str:
        names = ", ".join(_DAYS[day - 1] for day in sorted(self.days))
        return f"{names} {_clock(self.starts_minute)}-{_clock(self.ends_minute)} UTC"


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def is_open(hours: Hours, at: datetime) -> bool:
    """Whether `at` (aware) lies in `hours`: from the first minute's beginning to just before the last's end."""
    # A window that began yesterday may still be open.
    return any(starts <= at < ends for starts, ends in _openings(hours, at, days=range(-1, 1)))


def next_change(hours: Iterable[Hours], at: datetime) -> datetime | None:
    """The first moment after `at` (aware) at which any of `hours` begins or ends; None without hours."""
    return min(
        (
            edge
            for each in hours
            # Every weekday comes up within a week from today.
            for opening in _openings(each, at, days=range(-1, 8))
            for edge in opening
            if edge > at
        ),
        default=None,
    )


def overlap(hours: Sequence[Hours]) -> tuple[int, int] | None:
    """Positions of two that share a minute of some week; None when no two do. Their order does not matter."""
    taken = sorted(
        (start, end, position) for position, each in enumerate(hours) for start, end in _weekly(each)
    )
    for (_, end, first), (start, _, second) in pairwise(taken):
        if start < end:
            return min(first, second), max(first, second)
    return None


def _openings(hours: Hours, at: datetime, *, days: range) -> Iterator[tuple[datetime, datetime]]:
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for offset in days:
        day = midnight + timedelta(days=offset)
        if day.isoweekday() in hours.days:
            starts = day + timedelta(minutes=hours.starts_minute)
            yield starts, starts + timedelta(minutes=hours.length)


def _weekly(hours: Hours) -> Iterator[tuple[int, int]]:
    """Ranges of minutes of the week; one that runs over Sunday's midnight is cut in two."""
    for day in hours.days:
        start = (day - 1) * MINUTES_OF_DAY + hours.starts_minute
        end = start + hours.length
        yield start, min(end, MINUTES_OF_WEEK)
        if end > MINUTES_OF_WEEK:
            yield 0, end - MINUTES_OF_WEEK


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
