"""Loaders of benchmarks and telemetry."""

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from strawberry.dataloader import DataLoader

from raymart_graphql.keyset import Listing
from raymart_graphql.loading import LoaderPart
from raymart_graphql.reading import Reading
from raymart_graphql.schema.machines.types import Benchmark, BenchmarkCheck, MachineHour, MachineTelemetry
from raymart_marketplace.shared_state import REDIS_AWAY, Redis
from raymart_marketplace.supply.benchmarks import models
from raymart_marketplace.supply.telemetry import is_recent, read_records
from raymart_marketplace.supply.telemetry_hours import hours_of

BENCHMARKS = Listing(
    name="benchmarks", entity=models.Benchmark, key=models.Benchmark.id, show=Benchmark.of, newest_first=True
)
Hours = tuple[UUID, datetime, datetime]


class MachineLoaders(LoaderPart):
    """Part of one operation's loaders."""

    def __init__(self, reading: Reading, redis: Redis | None) -> None:
        super().__init__(reading)
        self._redis = redis
        self.benchmark = self._known(models.Benchmark, Benchmark.of)
        self.benchmarks_of_node = self._pages(BENCHMARKS, models.Benchmark.node_id)
        self.checks_of_benchmark: DataLoader[UUID, Sequence[BenchmarkCheck]] = DataLoader(
            load_fn=self._checks
        )
        self.telemetry_of_node: DataLoader[UUID, MachineTelemetry | None] = DataLoader(
            load_fn=self._telemetry
        )
        self.hours_of_node: DataLoader[Hours, Sequence[MachineHour]] = DataLoader(load_fn=self._hours)

    async def _checks(self, benchmark_ids: list[UUID]) -> list[Sequence[BenchmarkCheck]]:
        table = models.BenchmarkCheck
        statement = (
            select(table)
            .where(table.benchmark_id.in_(benchmark_ids))
            .order_by(table.benchmark_id, table.position)
        )
        found: dict[UUID, list[BenchmarkCheck]] = defaultdict(list)
        async with self._reading.session() as session:
            for row in await session.scalars(statement):
                found[row.benchmark_id].append(BenchmarkCheck.of(row))
        return [found[benchmark_id] for benchmark_id in benchmark_ids]

    async def _telemetry(self, node_ids: list[UUID]) -> list[MachineTelemetry | None]:
        """A node's owner was checked before: whoever reaches the node may see how it is doing."""
        if self._redis is None:
            return [None] * len(node_ids)
        try:
            records = await read_records(self._redis, node_ids)
        except REDIS_AWAY:
            return [None] * len(node_ids)
        now_s = time.time()
        recent = {node_id: record for node_id, record in records.items() if is_recent(record, now_s=now_s)}
        return [MachineTelemetry.of(recent[node_id]) if node_id in recent else None for node_id in node_ids]

    async def _hours(self, asked: list[Hours]) -> list[Sequence[MachineHour]]:
        by_range: dict[tuple[datetime, datetime], list[UUID]] = defaultdict(list)
        for node_id, since, until in asked:
            by_range[since, until].append(node_id)
        found: dict[Hours, Sequence[MachineHour]] = {}
        for (since, until), node_ids in by_range.items():
            async with self._reading.session() as session:
                hours = await hours_of(session, node_ids, since=since, until=until)
            found |= {
                (node_id, since, until): [MachineHour.of(hour) for hour in rows]
                for node_id, rows in hours.items()
            }
        return [found[each] for each in asked]
