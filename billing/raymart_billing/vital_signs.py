"""The few numbers that say whether the money works: for Prometheus, whose alarms wake an operator.

Read from Postgres, which all processes share: every API process shows the same, so an alarm takes the maximum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Each part is one look at an index or at a handful of rows: safe to scrape at any size of the tables.
_READ = text(
    """
    select 'raymart_ledger_findings', kind, findings::float8
      from (select distinct on (kind) kind, findings from ledger_check order by kind, id desc) newest
    union all
    select 'raymart_ledger_check_age_seconds', kind, extract(epoch from clock_timestamp() - checked_at)::float8
      from (select distinct on (kind) kind, checked_at from ledger_check order by kind, id desc) newest
    union all
    select 'raymart_usage_unposted_age_seconds', null, coalesce(extract(epoch from clock_timestamp()
      - uuid_extract_timestamp((select id from usage_record where posted_at is null order by id limit 1))), 0)::float8
    union all
    select 'raymart_usage_set_aside_records', null, count(*)::float8 from usage_set_aside where resolved_at is null
    union all
    select 'raymart_work_overdue_seconds', null, coalesce(extract(epoch from clock_timestamp()
      - (select min(due_at) from outbox where state = 'ready' and due_at < clock_timestamp())), 0)::float8
    union all
    select 'raymart_work_dead', null, count(*)::float8 from outbox where state = 'dead'
    union all
    select 'raymart_lease_overdue_seconds', null,
      coalesce(extract(epoch from clock_timestamp() - min(expires_at)), 0)::float8
      from credit_lease where closed_at is null and expires_at < clock_timestamp()
    """
)


@dataclass(frozen=True, slots=True)
class Sign:
    """What one gauge means."""

    name: str
    help: str
    label: str | None = None


SIGNS: Sequence[Sign] = (
    Sign(
        "raymart_ledger_findings",
        "What the newest check of the books found, by kind of check. Alarm: more than 0.",
        label="check",
    ),
    Sign(
        "raymart_ledger_check_age_seconds",
        "Since the newest check that was noted. Alarm: reconcile over 900.",
        label="check",
    ),
    Sign(
        "raymart_usage_unposted_age_seconds",
        "Age of the oldest usage that is recorded and not billed. Alarm: over 60.",
    ),
    Sign(
        "raymart_usage_set_aside_records",
        "Usage that could not be recorded (`raymart usage spilled`). Alarm: more than 0.",
    ),
    Sign("raymart_work_overdue_seconds", "How late the latest background work is. Alarm: over 60."),
    Sign("raymart_work_dead", "Background work that was given up (`raymart work list`). Alarm: more than 0."),
    Sign(
        "raymart_lease_overdue_seconds",
        "How long the oldest expired lease of a gateway is not returned. Alarm: over 300.",
    ),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a sign."""

    name: str
    label: str | None
    value: float


async def read_signs(session: AsyncSession) -> Sequence[Reading]:
    """Each sign as it is now, by the database's clock. Locks nothing."""
    return [Reading(name, label, value) for name, label, value in await session.execute(_READ)]
