"""Series of usage for charts: every bucket of the range, those without usage too, with the totals of each line."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.rollups.service import Dimension, Scope, Totals, UsageSum, usage_by_day, usage_by_hour
from raymart_core.errors import InvalidRequest

POINTS_MAX = 31 * 24
"""Points of one answer: a month of hours in one line, or of days in two dozen."""

_MEASURES = tuple(each.name for each in fields(Totals))


class Step(StrEnum):
    """The length of a bucket, in UTC."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """As a span of time."""
        return timedelta(hours=1) if self is Step.HOUR else timedelta(days=1)

    def start_of(self, moment: datetime) -> datetime:
        """The beginning of the bucket that `moment` (aware) lies in."""
        in_utc = moment.astimezone(UTC)
        if self is Step.HOUR:
            return in_utc.replace(minute=0, second=0, microsecond=0)
        return datetime.combine(in_utc.date(), time(), UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One member of the dimension, or all of it, over the whole range."""

    member_id: UUID | None
    totals: Totals
    points: Sequence[Totals]
    """One for each bucket of the series, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Usage over a range."""

    step: Step
    starts: Sequence[datetime]
    """The first moment of each bucket, oldest first."""
    totals: Totals
    lines: Sequence[Line]
    """What cost most first; one of zeros when there is no dimension and no usage."""


async def usage_series(
    session: AsyncSession,
    scope: Scope,
    *,
    since: datetime,
    until: datetime,
    step: Step,
    by: Dimension | None = None,
) -> Series:
    """Usage from the bucket of `since` to the one before `until` (both aware), in one statement.

    Raises: InvalidRequest for an empty range, or more than `POINTS_MAX` points over all lines.
    """
    starts = _buckets(since, until, step)
    end = starts[-1] + step.length
    sums: Sequence[UsageSum]
    if step is Step.DAY:
        sums = await usage_by_day(
            session, scope, since=starts[0].date(), until=end.date(), by=by, sums_max=POINTS_MAX
        )
    else:
        sums = await usage_by_hour(session, scope, since=starts[0], until=end, by=by, sums_max=POINTS_MAX)
    return _series(sums, starts, step, by)


def added(totals: Sequence[Totals]) -> Totals:
    """Their sum, measure by measure."""
    return Totals(**{name: sum(getattr(each, name) for each in totals) for name in _MEASURES})


def _buckets(since: datetime, until: datetime, step: Step) -> Sequence[datetime]:
    first = step.start_of(since)
    count = -((first - until) // step.length)
    if since >= until or count > POINTS_MAX:
        raise InvalidRequest(
            f"a range by the {step.value} has 1 to {POINTS_MAX} of them, not {max(count, 0)}", param="until"
        )
    return [first + number * step.length for number in range(count)]


def _series(sums: Sequence[UsageSum], starts: Sequence[datetime], step: Step, by: Dimension | None) -> Series:
    found: dict[UUID | None, dict[datetime, Totals]] = defaultdict(dict)
    if by is None:
        found[None] = {}
    for each in sums:
        found[each.member_id][each.starts_at] = each.totals
    if len(found) * len(starts) > POINTS_MAX:
        raise InvalidRequest(
            f"{len(found)} lines of {len(starts)} points; the limit is {POINTS_MAX} points, ask for a shorter range",
            param="until",
        )
    nothing = Totals()
    lines = [
        Line(
            member_id=member_id,
            totals=added(list(by_start.values())),
            points=[by_start.get(start, nothing) for start in starts],
        )
        for member_id, by_start in found.items()
    ]
    lines.sort(key=lambda line: (-line.totals.customer_nano_usd, str(line.member_id)))
    return Series(step=step, starts=starts, totals=added([line.totals for line in lines]), lines=lines)
