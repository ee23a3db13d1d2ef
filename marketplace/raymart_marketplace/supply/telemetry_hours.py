"""Telemetry by the hour, in Postgres: written from what Redis has, each minute once, and read as a series."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Interval, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest
from raymart_marketplace.supply.benchmarks.models import NodeTelemetry
from raymart_marketplace.supply.models import Node
from raymart_marketplace.supply.telemetry import MinuteSums, NodeRecord

HOURS_MAX = 31 * 24
"""Longest range that is read."""
HOURS_KEPT = "90 days"
_SUMS = ("samples", "utilisation_sum", "memory_used_sum", "power_sum")
_GREATEST = ("utilisation_max", "memory_used_max", "temperature_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryHour:
    """Means and extremes of one hour."""

    hour: datetime
    device: str
    samples: int
    utilisation_percent: float
    utilisation_percent_max: float
    memory_used_bytes: int
    memory_used_bytes_max: int
    temperature_c_max: float | None
    power_w: float | None
    disk_free_bytes_min: int | None
    ecc_uncorrected_total: int | None


async def linked_nodes(session: AsyncSession) -> Sequence[UUID]:
    """Nodes that may have told something that is not yet in the hours."""
    seen = select(Node.id).where(Node.last_seen_at > _recently("15 minutes")).order_by(Node.id)
    return (await session.scalars(seen)).all()


async def roll_up(session: AsyncSession, records: Mapping[UUID, NodeRecord]) -> int:
    """Add the records' finished minutes to their hours, each once; how many rows were written. Safe to run twice at once.

    A row knows the last minute in it, so that a minute which comes again is passed over.
    """
    rolled_up = await _rolled_up(session, records)
    by_minute: dict[int, list[dict[str, object]]] = {}
    for node_id, record in sorted(records.items()):
        for sums in record.minutes:
            if sums.minute > rolled_up.get(node_id, 0):
                by_minute.setdefault(sums.minute, []).append(_row(node_id, sums))
    written = 0
    for _, rows in sorted(by_minute.items()):
        written += await _add(session, rows)
    return written


async def prune(session: AsyncSession) -> None:
    """Forget hours that are over for 90 days."""
    await session.execute(delete(NodeTelemetry).where(NodeTelemetry.hour < _recently(HOURS_KEPT)))


async def hours_of(
    session: AsyncSession, node_ids: Sequence[UUID], *, since: datetime, until: datetime
) -> Mapping[UUID, Sequence[TelemetryHour]]:
    """The hours that begin from `since` up to and without `until` of each node, oldest first, the machine's before its GPUs'.

    Raises: InvalidRequest for an empty or too long range.
    """
    if not timedelta(0) < until - since <= timedelta(hours=HOURS_MAX):
        raise InvalidRequest(f"a range of {until - since} is outside 0 to {HOURS_MAX} hours", param="until")
    found: dict[UUID, list[TelemetryHour]] = {node_id: [] for node_id in node_ids}
    statement = (
        select(NodeTelemetry)
        .where(NodeTelemetry.node_id.in_(node_ids), NodeTelemetry.hour >= since, NodeTelemetry.hour < until)
        .order_by(NodeTelemetry.node_id, NodeTelemetry.hour, NodeTelemetry.device)
    )
    for row in await session.scalars(statement):
        found[row.node_id].append(_shown(row))
    return found


async def _rolled_up(session: AsyncSession, node_ids: Collection[UUID]) -> Mapping[UUID, int]:
    """The last minute of each node that is in its hours."""
    statement = (
        select(NodeTelemetry.node_id, func.max(NodeTelemetry.minute))
        .where(NodeTelemetry.node_id.in_(node_ids), NodeTelemetry.hour > _recently("3 hours"))
        .group_by(NodeTelemetry.node_id)
    )
    return {node_id: minute for node_id, minute in await session.execute(statement)}  # noqa: C416  (rows)


async def _add(session: AsyncSession, rows: Sequence[dict[str, object]]) -> int:
    """One minute's rows, of different nodes and devices."""
    table = NodeTelemetry
    made = insert(table).values(list(rows))
    new = made.excluded
    values = {
        "minute": new.minute,
        **{name: _plus(getattr(table, name), new[name]) for name in _SUMS},
        **{name: func.greatest(getattr(table, name), new[name]) for name in _GREATEST},
        "disk_free_min": func.least(table.disk_free_min, new.disk_free_min),
        "ecc_uncorrected": func.coalesce(new.ecc_uncorrected, table.ecc_uncorrected),
    }
    statement = made.on_conflict_do_update(
        index_elements=[table.node_id, table.hour, table.device],
        set_=values,
        where=table.minute < new.minute,
    )
    done = await session.execute(statement.returning(table.node_id))
    return len(done.all())


def _recently(interval: str) -> ColumnElement[datetime]:
    return func.clock_timestamp() - cast(interval, Interval)


def _plus(before: ColumnElement[float], now: ColumnElement[float]) -> ColumnElement[float]:
    """The sum, where either may be null."""
    return func.coalesce(before, 0) + now


def _row(node_id: UUID, sums: MinuteSums) -> dict[str, object]:
    hour = datetime.fromtimestamp(sums.minute * 60, UTC).replace(minute=0)
    return {
        "node_id": node_id,
        "hour": hour,
        "device": sums.device,
        "minute": sums.minute,
        **{name: getattr(sums, name) for name in (*_SUMS, *_GREATEST)},
        "disk_free_min": sums.disk_free_min,
        "ecc_uncorrected": sums.ecc_uncorrected,
    }


def _shown(row: NodeTelemetry) -> TelemetryHour:
    return TelemetryHour(
        hour=row.hour,
        device=row.device,
        samples=row.samples,
        utilisation_percent=row.utilisation_sum / row.samples,
        utilisation_percent_max=row.utilisation_max,
        memory_used_bytes=round(row.memory_used_sum / row.samples),
        memory_used_bytes_max=round(row.memory_used_max),
        temperature_c_max=row.temperature_max,
        power_w=None if row.power_sum is None else row.power_sum / row.samples,
        disk_free_bytes_min=None if row.disk_free_min is None else round(row.disk_free_min),
        ecc_uncorrected_total=row.ecc_uncorrected,
    )
