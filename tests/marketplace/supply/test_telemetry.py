"""From samples to the newest in Redis and the hours in Postgres; both are the session's own."""

from datetime import UTC, datetime, timedelta

import pytest

from raymart_core.errors import InvalidRequest
from raymart_core.ids import new_id
from raymart_core.wire.machine import GpuSample, Telemetry
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.shared_state import make_redis
from raymart_marketplace.supply import telemetry_hours
from raymart_marketplace.supply.telemetry import (
    KEPT_S,
    MINUTES_KEPT,
    SHOWN_S,
    TelemetryBook,
    is_recent,
    read_records,
)
from raymart_marketplace.supply.telemetry_hours import hours_of, roll_up

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
"""The hours of the last three are looked at; each test has nodes of its own."""


def sample(cpu=10.0, memory=100, disk=1_000, **gpu):
    gpus = (GpuSample(uuid="GPU-1", **gpu),) if gpu else ()
    return Telemetry(clock_ms=1, cpu_percent=cpu, memory_used_bytes=memory, disk_free_bytes=disk, gpus=gpus)


class Clock:
    def __init__(self):
        self.now_s = HOUR.timestamp()

    def __call__(self):
        return self.now_s


@pytest.fixture
async def redis(redis_server):
    redis = make_redis(redis_server.url)
    yield redis
    await redis.aclose()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def book(redis, clock):
    return TelemetryBook(redis, clock=clock)


async def kept(book, redis, node_id):
    await book.flush()
    return (await read_records(redis, [node_id])).get(node_id)


class TestNewest:
    async def test_the_newest_sample_is_what_others_read(self, book, redis, clock):
        node_id = new_id()
        book.add(node_id, sample(cpu=1.0))
        book.add(node_id, sample(cpu=2.0))
        record = await kept(book, redis, node_id)
        assert (record.newest.cpu_percent, record.at_s) == (2.0, clock.now_s)
        assert 0 < await redis.ttl(f"node:telemetry:{node_id.hex}") <= KEPT_S

    async def test_a_node_that_went_silent_is_not_recent(self, book, redis, clock):
        node_id = new_id()
        book.add(node_id, sample())
        record = await kept(book, redis, node_id)
        assert is_recent(record, now_s=clock.now_s + SHOWN_S - 1)
        assert not is_recent(record, now_s=clock.now_s + SHOWN_S)

    async def test_only_nodes_that_said_something_are_written(self, book, redis):
        node_id = new_id()
        book.add(node_id, sample())
        await kept(book, redis, node_id)
        await redis.delete(f"node:telemetry:{node_id.hex}")
        assert await kept(book, redis, node_id) is None

    async def test_a_node_whose_link_is_gone_is_forgotten_here(self, book):
        node_id = new_id()
        book.add(node_id, sample())
        assert node_id in book.newest
        book.forget(node_id)
        assert node_id not in book.newest
        await book.flush()

    async def test_what_another_version_wrote_is_passed_over(self, redis):
        node_id = new_id()
        await redis.set(f"node:telemetry:{node_id.hex}", b"\x93junk", ex=10)
        assert await read_records(redis, [node_id]) == {}

    async def test_without_redis_nothing_fails(self):
        book = TelemetryBook(make_redis("redis://127.0.0.1:1/0"))
        book.add(new_id(), sample())
        await book.flush()

    async def test_only_the_last_minutes_are_kept(self, book, redis, clock):
        node_id = new_id()
        for _ in range(MINUTES_KEPT + 5):
            book.add(node_id, sample())
            clock.now_s += 60
        record = await kept(book, redis, node_id)
        assert len(record.minutes) == MINUTES_KEPT


class TestHours:
    async def rolled_up(self, sessions, book, redis, node_id):
        record = await kept(book, redis, node_id)
        async with session_scope(sessions) as session:
            return await roll_up(session, {node_id: record})

    async def hours(self, sessions, node_id):
        async with session_scope(sessions) as session:
            found = await hours_of(session, [node_id], since=HOUR, until=HOUR + timedelta(hours=2))
        return found[node_id]

    async def test_an_hour_has_means_and_extremes_of_all_its_minutes(self, sessions, book, redis, clock):
        node_id = new_id()
        for minute, cpu in enumerate((10.0, 20.0, 60.0)):
            clock.now_s = HOUR.timestamp() + 60 * minute
            for temperature in (50.0, 70.0):
                book.add(
                    node_id,
                    sample(
                        cpu=cpu,
                        memory=100 * (minute + 1),
                        disk=1_000 - minute,
                        utilisation_percent=cpu + 1,
                        memory_used_bytes=7,
                        temperature_c=temperature + minute,
                        power_w=300.0,
                        ecc_uncorrected_total=minute,
                    ),
                )
        clock.now_s += 60
        book.add(node_id, sample())  # Of a minute that is not over.
        await self.rolled_up(sessions, book, redis, node_id)
        machine, gpu = await self.hours(sessions, node_id)
        assert (machine.hour, machine.device, machine.samples) == (HOUR, "", 6)
        assert (machine.utilisation_percent, machine.utilisation_percent_max) == (30.0, 60.0)
        assert (machine.memory_used_bytes, machine.memory_used_bytes_max) == (200, 300)
        assert (machine.disk_free_bytes_min, machine.temperature_c_max, machine.power_w) == (998, None, None)
        assert (gpu.device, gpu.samples, gpu.utilisation_percent) == ("GPU-1", 6, 31.0)
        assert (gpu.temperature_c_max, gpu.power_w, gpu.ecc_uncorrected_total) == (72.0, 300.0, 2)
        assert gpu.disk_free_bytes_min is None

    async def test_a_minute_that_comes_again_is_counted_once(self, sessions, book, redis, clock):
        node_id = new_id()
        for _ in range(3):
            book.add(node_id, sample())
            clock.now_s += 60
        assert await self.rolled_up(sessions, book, redis, node_id) == 2
        book.add(node_id, sample())
        assert await self.rolled_up(sessions, book, redis, node_id) == 1
        assert await self.rolled_up(sessions, book, redis, node_id) == 0
        (machine,) = await self.hours(sessions, node_id)
        assert machine.samples == 3

    async def test_two_rollups_at_once_count_a_minute_once(self, sessions, book, redis, clock, monkeypatch):
        """The second has read what is rolled up before the first wrote: the row itself refuses the minute."""

        async def nothing_yet(_session, _node_ids):
            return {}

        monkeypatch.setattr(telemetry_hours, "_rolled_up", nothing_yet)
        node_id = new_id()
        for _ in range(3):
            book.add(node_id, sample())
            clock.now_s += 60
        assert await self.rolled_up(sessions, book, redis, node_id) == 2
        assert await self.rolled_up(sessions, book, redis, node_id) == 0
        (machine,) = await self.hours(sessions, node_id)
        assert machine.samples == 2

    async def test_a_minute_belongs_to_its_hour(self, sessions, book, redis, clock):
        node_id = new_id()
        clock.now_s = HOUR.timestamp() + 59 * 60
        for _ in range(3):
            book.add(node_id, sample())
            clock.now_s += 60
        await self.rolled_up(sessions, book, redis, node_id)
        first, second = await self.hours(sessions, node_id)
        assert (first.hour, first.samples) == (HOUR, 1)
        assert (second.hour, second.samples) == (HOUR + timedelta(hours=1), 1)

    @pytest.mark.parametrize("hours", [-1, 0, 31 * 24 + 1])
    async def test_an_empty_or_too_long_range_is_refused(self, sessions, hours):
        with pytest.raises(InvalidRequest):
            async with session_scope(sessions) as session:
                await hours_of(session, [new_id()], since=HOUR, until=HOUR + timedelta(hours=hours))
