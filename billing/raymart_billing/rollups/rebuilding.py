"""Comparing rollups with the records that they are sums of, and summing them anew: day by day, each by itself.

A day is the window: what it takes of memory is its hours' sums, posters wait for one day at a time, and a run that was
interrupted is simply begun again, for a day that agrees is left as it is.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta

from raymart_billing.connections import Connection

_DRIFT = b"select kind, rows from usage_rollup_drift(%(day)s)"
_REBUILD = b"select usage_rollup_rebuild(%(day)s)"
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How many rows of a day's rollups differ from its records."""

    day: date
    hour_rows: int
    day_rows: int
    part_rows: int

    @property
    def rows(self) -> int:
        """All of them."""
        return self.hour_rows + self.day_rows + self.part_rows

    def __bool__(self) -> bool:
        return self.rows > 0


def days_of(month: date) -> list[date]:
    """Each day of the month that `month` lies in."""
    first = month.replace(day=1)
    after = (first + 32 * _DAY).replace(day=1)
    return [first + number * _DAY for number in range((after - first).days)]


async def drift_of(connection: Connection, day: date) -> Drift:
    """Sum the records of `day` (UTC) and compare; reads only."""
    rows: dict[str, int] = dict(await (await connection.execute(_DRIFT, {"day": day})).fetchall())
    return Drift(day=day, hour_rows=rows["hour"], day_rows=rows["day"], part_rows=rows["part"])


async def rebuild(connection: Connection, day: date) -> None:
    """Replace the rollups of `day` (UTC) by the sums of its records, in one transaction. Idempotent.

    Locks posters out meanwhile, a few seconds for half a million usages.
    Raises: psycopg.errors.ObjectNotInPrerequisiteState when the records of its month are archived.
    """
    await connection.execute(_REBUILD, {"day": day})


async def drifting_days(connection: Connection, month: date) -> AsyncIterator[Drift]:
    """The days of `month` whose rollups differ from their records, oldest first, each as soon as it was looked at."""
    for day in days_of(month):
        drift = await drift_of(connection, day)
        if drift:
            yield drift
