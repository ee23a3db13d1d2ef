"""How machines are doing: the newest of each in Redis, with sums by the minute that become hours in Postgres.

The process that has a node's link keeps the node's sums of the present minute and the last finished ones, and writes all
of it with the newest sample: one short value a node, so that ten thousand nodes cost one pipeline a second. A node that
comes to another process, or Redis that is away, loses minutes of telemetry and nothing else.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import cast
from uuid import UUID

import msgspec
import structlog

from raymart_core.wire.machine import TELEMETRY_S, GpuSample, Telemetry
from raymart_marketplace.shared_state import REDIS_AWAY, Redis

log = structlog.get_logger()

MINUTES_KEPT = 10
"""Finished minutes of a node in its value: as long may pass between two rollups."""
KEPT_S = 900
"""A value ends this long after its last sample; `latest` shows it for `SHOWN_S` only."""
SHOWN_S = 6 * TELEMETRY_S
_FLUSH_S = 1.0
_READ_AT_ONCE = 500


class MinuteSums(msgspec.Struct, array_like=True):
    """One minute of a machine or a GPU."""

    minute: int
    """Since 1970, by the marketplace's clock."""
    device: str
    """UUID of the GPU; empty for the machine."""
    samples: int = 0
    utilisation_sum: float = 0.0
    utilisation_max: float = 0.0
    memory_used_sum: float = 0.0
    memory_used_max: float = 0.0
    temperature_max: float | None = None
    power_sum: float | None = None
    disk_free_min: float | None = None
    ecc_uncorrected: int | None = None


class NodeRecord(msgspec.Struct, array_like=True):
    """What Redis has of a node."""

    at_s: float
    """Unix time of the newest sample, by the marketplace's clock."""
    newest: Telemetry
    minutes: list[MinuteSums]
    """Finished ones, oldest first."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(NodeRecord).decode


class TelemetryBook:
    """What the nodes of this process tell. `add` is called by links and costs no I/O; a task writes every second."""

    def __init__(self, redis: Redis, *, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._clock = clock
        self._nodes: dict[UUID, _NodeSums] = {}
        self._changed: set[UUID] = set()
        self._writing: asyncio.Task[None] | None = None

    @property
    def newest(self) -> Mapping[UUID, Telemetry]:
        """The newest sample of each node whose link is here."""
        return {node_id: sums.newest for node_id, sums in self._nodes.items() if sums.newest is not None}

    async def start(self) -> None:
        """Write from now on."""
        self._writing = asyncio.create_task(self._write())

    async def stop(self) -> None:
        """Write what waits, once, and no more."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
            await self.flush()

    def add(self, node_id: UUID, telemetry: Telemetry) -> None:
        """A node's sample has come."""
        sums = self._nodes.get(node_id)
        if sums is None:
            sums = self._nodes[node_id] = _NodeSums()
        sums.add(telemetry, self._clock())
        self._changed.add(node_id)

    def forget(self, node_id: UUID) -> None:
        """The node's link is gone; what it told last stays in Redis for a while."""
        self._changed.discard(node_id)
        self._nodes.pop(node_id, None)

    async def flush(self) -> None:
        """Write the nodes that have told something since the last time."""
        changed, self._changed = self._changed, set()
        records = {node_id: self._nodes[node_id].record() for node_id in changed if node_id in self._nodes}
        if not records:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for node_id, record in records.items():
                    pipe.set(_key(node_id), _encode(record), ex=KEPT_S)
                await pipe.execute()
        except REDIS_AWAY as error:
            log.warning("telemetry.not_kept", nodes=len(records), reason=type(error).__name__)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            await self.flush()


async def read_records(redis: Redis, node_ids: Sequence[UUID]) -> Mapping[UUID, NodeRecord]:
    """What is kept of these nodes. Raises: REDIS_AWAY."""
    found: dict[UUID, NodeRecord] = {}
    for first in range(0, len(node_ids), _READ_AT_ONCE):
        asked = node_ids[first : first + _READ_AT_ONCE]
        values = await redis.mget([_key(node_id) for node_id in asked])
        for node_id, value in zip(asked, values, strict=True):
            if value is not None:
                try:
                    found[node_id] = _decode(cast("bytes", value))
                except msgspec.MsgspecError:
                    # Written by another version of this program; the next sample replaces it.
                    log.info("telemetry.unreadable", node_id=str(node_id))
    return found


def is_recent(record: NodeRecord, *, now_s: float) -> bool:
    """Whether the sample still tells how the machine is doing."""
    return now_s - record.at_s < SHOWN_S


class _NodeSums:
    """One node's present minute, and the last finished ones."""

    def __init__(self) -> None:
        self.newest: Telemetry | None = None
        self._at_s = 0.0
        self._minute = 0
        self._devices: dict[str, MinuteSums] = {}
        self._finished: deque[Sequence[MinuteSums]] = deque(maxlen=MINUTES_KEPT)

    def add(self, telemetry: Telemetry, now_s: float) -> None:
        minute = int(now_s // 60)
        if minute != self._minute:
            if self._devices:
                self._finished.append(tuple(self._devices.values()))
            self._minute, self._devices = minute, {}
        self.newest, self._at_s = telemetry, now_s
        machine = self._sums("", telemetry.cpu_percent, telemetry.memory_used_bytes)
        machine.disk_free_min = _least(machine.disk_free_min, telemetry.disk_free_bytes)
        for sample in telemetry.gpus:
            self._add_gpu(sample)

    def record(self) -> NodeRecord:
        assert self.newest is not None
        finished = [sums for minute in self._finished for sums in minute]
        return NodeRecord(at_s=self._at_s, newest=self.newest, minutes=finished)

    def _add_gpu(self, sample: GpuSample) -> None:
        sums = self._sums(sample.uuid, sample.utilisation_percent or 0.0, sample.memory_used_bytes or 0)
        if sample.temperature_c is not None:
            sums.temperature_max = max(sums.temperature_max or sample.temperature_c, sample.temperature_c)
        if sample.power_w is not None:
            sums.power_sum = (sums.power_sum or 0.0) + sample.power_w
        if sample.ecc_uncorrected_total is not None:
            sums.ecc_uncorrected = sample.ecc_uncorrected_total

    def _sums(self, device: str, utilisation: float, memory_used: float) -> MinuteSums:
        sums = self._devices.get(device)
        if sums is None:
            sums = self._devices[device] = MinuteSums(self._minute, device)
        sums.samples += 1
        sums.utilisation_sum += utilisation
        sums.utilisation_max = max(sums.utilisation_max, utilisation)
        sums.memory_used_sum += memory_used
        sums.memory_used_max = max(sums.memory_used_max, memory_used)
        return sums


def _least(before: float | None, now: float) -> float:
    return now if before is None else min(before, now)


def _key(node_id: UUID) -> str:
    return f"node:telemetry:{node_id.hex}"
