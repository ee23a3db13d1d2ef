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
    union all
    -- Nothing where no chain was ever read.
    select 'raymart_usdc_scan_age_seconds', null, extract(epoch from clock_timestamp() - min(scanned_at))::float8
      from usdc_scan having min(scanned_at) is not null
    union all
    select 'raymart_usdc_gap_micro_usdc', null, coalesce(max(abs(gap_micro_usdc)), 0)::float8 from usdc_scan
    union all
    select 'raymart_usdc_undecided_age_seconds', null, coalesce(extract(epoch from clock_timestamp()
      - (select final_at from usdc_deposit where state = 'final' order by id limit 1)), 0)::float8
    union all
    -- Nothing where nothing was ever sealed, for want of a key.
    select 'raymart_audit_unsealed_age_seconds', null, coalesce(extract(epoch from clock_timestamp() - (
      select created_at from audit_entry
       where id > (select entry_id from audit_seal order by position desc limit 1) order by id limit 1)), 0)::float8
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What one gauge means, and when somebody should be woken."""

    name: str
    about: str
    alarm_above: float
    label: str | None = None
    """What parts its values."""
    alarm_of: str | None = None
    """The one label whose values alarm; None for every value."""

    @property
    def help(self) -> str:
        """For whoever reads the metric."""
        which = f"{self.alarm_of} over" if self.alarm_of else "over"
        return f"{self.about} Alarm: {which} {self.alarm_above:g}."


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a sign."""

    name: str
    label: str | None
    value: float

    @property
    def sign(self) -> Sign:
        """What it is a value of."""
        return _BY_NAME[self.name]

    @property
    def alarms(self) -> bool:
        """Whether somebody should be woken."""
        sign = self.sign
        return self.value > sign.alarm_above and sign.alarm_of in {None, self.label}


SIGNS: Sequence[Sign] = (
    Sign(
        name="raymart_ledger_findings",
        about="What the newest check of the books found, by kind of check.",
        alarm_above=0,
        label="check",
    ),
    Sign(
        name="raymart_ledger_check_age_seconds",
        about="Since the newest check that was noted.",
        alarm_above=900,
        label="check",
        alarm_of="reconcile",
    ),
    Sign(
        name="raymart_usage_unposted_age_seconds",
        about="Age of the oldest usage that is recorded and not billed.",
        alarm_above=60,
    ),
    Sign(
        name="raymart_usage_set_aside_records",
        about="Usage that could not be recorded (`raymart usage spilled`).",
        alarm_above=0,
    ),
    Sign(
        name="raymart_work_overdue_seconds", about="How late the latest background work is.", alarm_above=60
    ),
    Sign(
        name="raymart_work_dead",
        about="Background work that was given up (`raymart work list`).",
        alarm_above=0,
    ),
    Sign(
        name="raymart_lease_overdue_seconds",
        about="How long the oldest expired lease of a gateway is not returned.",
        alarm_above=300,
    ),
    Sign(
        name="raymart_usdc_scan_age_seconds",
        about="Since the treasury's account was last read to its end (`raymart usdc treasury`).",
        alarm_above=120,
    ),
    Sign(
        name="raymart_usdc_gap_micro_usdc",
        about="By how much the treasury's balance differs from the sum of what was read.",
        alarm_above=0,
    ),
    Sign(
        name="raymart_usdc_undecided_age_seconds",
        about="Age of the oldest payment in USDC that waits for a person (`raymart usdc deposits --state final`).",
        alarm_above=259_200,
    ),
    Sign(
        name="raymart_audit_unsealed_age_seconds",
        about="Age of the oldest entry of the audit log that follows the newest seal (`raymart audit verify`).",
        alarm_above=300,
    ),
)
_BY_NAME = {sign.name: sign for sign in SIGNS}


async def read_signs(session: AsyncSession) -> Sequence[Reading]:
    """Each sign as it is now, by the database's clock. Locks nothing."""
    return [Reading(name, label, value) for name, label, value in await session.execute(_READ)]
