"""Reading the rollups: sums per bucket of time, apart by project, key, model or provider. Raw usage is never read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    Uuid,
    case,
    cast,
    func,
    literal,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from raymart_billing.rollups.models import UsageDay, UsageDayPart, UsageHour
from raymart_core.errors import InvalidRequest
from raymart_marketplace.catalog.models import ModelRevision

DAYS_MAX = 400
"""Longest range that is read by the day."""
HOURS_MAX = 31 * 24
"""Longest range that is read by the hour."""
SUMS_MAX = 100_000
"""Sums of one answer; a finer grouping needs a shorter range."""


class Dimension(StrEnum):
    """What sums can be apart by."""

    PROJECT = "project"
    API_KEY = "api_key"
    MODEL = "model"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over requests."""

    requests: int = 0
    tokens_prompt: int = 0
    """Cached ones included."""
    tokens_completion: int = 0
    tokens_cached: int = 0
    image_pixel_steps: int = 0
    gpu_ms: int = 0
    requests_priced: int = 0
    customer_nano_usd: int = 0
    provider_nano_usd: int = 0
    fee_nano_usd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """Totals of one bucket and one member of the dimension."""

    starts_at: datetime
    """The bucket's first moment; of a whole range, the range's."""
    member_id: UUID | None
    """The project, key, model or provider; None without a dimension, for usage without a key, or a lost revision."""
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose usage: of one customer or one provider; with neither, of everybody. A project narrows a customer."""

    organization_id: UUID | None = None
    project_id: UUID | None = None
    provider_id: UUID | None = None


_MEASURES = tuple(Totals.__dataclass_fields__)
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
DayTable = type[UsageDay] | type[UsageDayPart]
Table = DayTable | type[UsageHour]
Summed = Table | ReadOnlyColumnCollection[str, Any]
"""What has the columns of a rollup: its table, or a subquery's sums of it."""
AnySelect = Select[*tuple[Any, ...]]


async def usage_by_day(
    session: AsyncSession,
    scope: Scope,
    *,
    since: date,
    until: date,
    by: Dimension | None = None,
    sums_max: int = SUMS_MAX,
) -> Sequence[UsageSum]:
    """Sums of each day from `since` up to and without `until`, oldest first; days without usage are left out.

    Raises: InvalidRequest for an empty or too long range, or more than `sums_max` sums.
    """
    _require_range(until - since, limit=DAYS_MAX * _DAY)
    table, part = _days_for(scope, by=by)
    within = (table.day >= since, table.day < until, *_scoped(table, scope), *part)
    statement = _buckets(table, table.day, within, by=by).limit(sums_max + 1)
    rows = _few((await session.execute(statement)).all(), sums_max)
    return [UsageSum(starts_at=start_of(row[0]), member_id=row[1], totals=_totals(row[2:])) for row in rows]


async def usage_by_hour(
    session: AsyncSession,
    scope: Scope,
    *,
    since: datetime,
    until: datetime,
    by: Dimension | None = None,
    sums_max: int = SUMS_MAX,
) -> Sequence[UsageSum]:
    """Sums of each hour that begins from `since` up to and without `until`, like `usage_by_day`."""
    _require_range(until - since, limit=HOURS_MAX * _HOUR)
    within = (UsageHour.hour >= since, UsageHour.hour < until, *_scoped(UsageHour, scope))
    statement = _buckets(UsageHour, UsageHour.hour, within, by=by).limit(sums_max + 1)
    rows = _few((await session.execute(statement)).all(), sums_max)
    return [UsageSum(starts_at=row[0], member_id=row[1], totals=_totals(row[2:])) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A month at a glance; the members of each dimension by what they cost, dearest first."""

    month: date
    totals: Totals
    by: Mapping[Dimension, Sequence[UsageSum]]


async def usage_summary(
    session: AsyncSession, scope: Scope, *, month: date, members_max: int = 100
) -> Summary:
    """The month that `month` lies in, in one statement; of each dimension at most `members_max` members."""
    first = month.replace(day=1)
    after = (first + 32 * _DAY).replace(day=1)
    days = (first, after)
    statement = union_all(_month_by_key(scope, days), _month_by_offer(scope, days))
    totals = Totals()
    found: dict[Dimension, list[UsageSum]] = {by: [] for by in Dimension}
    for dimension, member_id, *measures in await session.execute(statement):
        if dimension is None:
            totals = _totals(measures)
        else:
            member = UsageSum(starts_at=start_of(first), member_id=member_id, totals=_totals(measures))
            found[Dimension(dimension)].append(member)
    for members in found.values():
        members.sort(key=lambda member: (-member.totals.customer_nano_usd, str(member.member_id)))
        del members[members_max:]
    return Summary(month=first, totals=totals, by=found)


def start_of(day: date) -> datetime:
    """The first moment of `day` in UTC."""
    return datetime.combine(day, time(), UTC)


def _days_for(scope: Scope, *, by: Dimension | None) -> tuple[DayTable, Sequence[ColumnElement[bool]]]:
    """Where the days of `scope` are read from, and which of its rows: what is narrowed to a project or a provider needs
    the combinations, and everything else one of the parts.
    """
    if scope.project_id is not None or scope.provider_id is not None:
        return UsageDay, ()
    if by in (Dimension.MODEL, Dimension.PROVIDER):
        return UsageDayPart, (UsageDayPart.project_id.is_(None),)
    return UsageDayPart, (UsageDayPart.revision_id.is_(None),)


def _month_by_key(scope: Scope, days: tuple[date, date]) -> AnySelect:
    """(dimension, member, measures) of the total, which has neither, of each project and of each key."""
    table, part = _days_for(scope, by=Dimension.API_KEY)
    project, key = table.project_id, table.api_key_id
    dimension = case(
        (func.grouping(project) == 0, Dimension.PROJECT.value),
        (func.grouping(key) == 0, Dimension.API_KEY.value),
    )
    return (
        select(dimension, func.coalesce(project, key), *_measures(table))
        .where(table.day >= days[0], table.day < days[1], *_scoped(table, scope), *part)
        .group_by(func.grouping_sets(tuple_(), tuple_(project), tuple_(key)))
    )


def _month_by_offer(scope: Scope, days: tuple[date, date]) -> AnySelect:
    """(dimension, member, measures) of each model and of each provider."""
    table, part = _days_for(scope, by=Dimension.PROVIDER)
    keys = (table.revision_id, table.provider_id)
    sums = (
        select(*keys, *_measures(table))
        .where(table.day >= days[0], table.day < days[1], *_scoped(table, scope), *part)
        .group_by(*keys)
        .subquery()
    )
    model, provider = ModelRevision.model_id, sums.c.provider_id
    dimension = case((func.grouping(model) == 0, Dimension.MODEL.value), else_=Dimension.PROVIDER.value)
    return (
        select(dimension, func.coalesce(model, provider), *_measures(sums.c))
        .select_from(_with_model(sums))
        .group_by(func.grouping_sets(tuple_(model), tuple_(provider)))
    )


def _buckets(
    table: Table,
    bucket: InstrumentedAttribute[date] | InstrumentedAttribute[datetime],
    within: Sequence[ColumnElement[bool]],
    *,
    by: Dimension | None,
) -> AnySelect:
    """Sums of the rows `within`, by bucket and by the members of `by`."""
    if by is None:
        nobody = literal(None, Uuid())
        return select(bucket, nobody, *_measures(table)).where(*within).group_by(bucket).order_by(bucket)
    if by is not Dimension.MODEL:
        member = _member(table, by)
        statement = select(bucket, member, *_measures(table)).where(*within)
        return statement.group_by(bucket, member).order_by(bucket, member)
    # The few sums by revision are joined with their models, and not the many rows.
    keys = (bucket, table.revision_id)
    sums = select(*keys, *_measures(table)).where(*within).group_by(*keys).subquery()
    start, model = sums.c[bucket.key], ModelRevision.model_id
    joined = select(start, model, *_measures(sums.c)).select_from(_with_model(sums))
    return joined.group_by(start, model).order_by(start, model)


def _member(columns: Summed, by: Dimension) -> ColumnElement[UUID | None]:
    members: Mapping[Dimension, Any] = {
        Dimension.PROJECT: columns.project_id,
        Dimension.API_KEY: columns.api_key_id,
        Dimension.MODEL: ModelRevision.model_id,
        Dimension.PROVIDER: columns.provider_id,
    }
    member: ColumnElement[UUID | None] = members[by]
    return member


def _with_model(sums: Subquery) -> FromClause:
    """With the revision, which says the model; usage keeps its row when there is none."""
    return sums.outerjoin(ModelRevision, ModelRevision.id == sums.c.revision_id)


def _measures(columns: Summed) -> Sequence[ColumnElement[int]]:
    # A sum of bigints is numeric in PostgreSQL; ours stay whole numbers.
    return [
        cast(func.coalesce(func.sum(getattr(columns, name)), 0), BigInteger).label(name) for name in _MEASURES
    ]


def _scoped(table: Table, scope: Scope) -> Sequence[ColumnElement[bool]]:
    columns = (
        (table.organization_id, scope.organization_id),
        (table.project_id, scope.project_id),
        (table.provider_id, scope.provider_id),
    )
    return [column == value for column, value in columns if value is not None]


def _totals(measures: Sequence[int]) -> Totals:
    return Totals(**dict(zip(_MEASURES, measures, strict=True)))


def _few(rows: Sequence[Any], sums_max: int) -> Sequence[Any]:
    if len(rows) > sums_max:
        raise InvalidRequest(
            f"this range has more than {sums_max} sums; ask for a shorter one, or group by less"
        )
    return rows


def _require_range(length: timedelta, *, limit: timedelta) -> None:
    if not timedelta(0) < length <= limit:
        raise InvalidRequest(f"a range is more than nothing and at most {limit.days} days, not {length}")
