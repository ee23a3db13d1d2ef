"""A record counts as kept when one durable copy exists, and not before."""

import threading

import pytest
from redis.asyncio import Redis

from raymart_billing.records import decode, encode
from raymart_billing.spill import Journal, Spill, SpillFailed, SpillStream
from raymart_billing.spill import journal as journal_module
from raymart_billing.spill import spill as spill_module
from raymart_billing.spill.journal import read_segment, segments
from raymart_billing.spill.stream import StreamRefused
from raymart_local.ports import free_port


async def in_stream(stream) -> list:
    return [decode(record) for _, record in await stream.read(1_000)]


def in_files(directory) -> list:
    return [decode(frame.content) for path in segments(directory) for frame in read_segment(path)]


@pytest.fixture
async def nowhere():
    """A stream whose Redis is not there."""
    stream = SpillStream(f"redis://127.0.0.1:{free_port()}/0")
    yield stream
    await stream.aclose()


class TestKeep:
    async def test_both_places_hold_every_record(self, spill, stream, directory, books):
        requests = [books.finished() for _ in range(5)]
        await spill.keep(requests)
        assert await in_stream(stream) == requests
        assert in_files(directory) == requests

    async def test_without_redis_the_file_is_enough(self, nowhere, directory, books):
        spill = Spill(journal=Journal(directory, bytes_max=1_000_000), stream=nowhere)
        request = books.finished()
        await spill.keep([request])
        assert in_files(directory) == [request]
        await spill.aclose()

    async def test_without_a_disk_the_stream_is_enough(self, stream, tmp_path, books):
        (tmp_path / "spill").write_text("a file where the folder should be")
        spill = Spill(journal=Journal(tmp_path / "spill", bytes_max=1_000_000), stream=stream)
        request = books.finished()
        await spill.keep([request])
        assert await in_stream(stream) == [request]
        await spill.aclose()

    async def test_with_neither_it_says_so(self, nowhere, directory, books):
        spill = Spill(journal=Journal(directory, bytes_max=10), stream=nowhere)
        with pytest.raises(SpillFailed):
            await spill.keep([books.finished()])
        await spill.aclose()

    async def test_a_disk_that_hangs_does_not_count_and_is_not_queued_behind(
        self, stream, directory, books, monkeypatch
    ):
        freed, syncs = threading.Event(), []

        def hang(_descriptor):
            syncs.append(1)
            freed.wait(30)

        monkeypatch.setattr(journal_module.os, "fsync", hang)
        monkeypatch.setattr(spill_module, "FILE_TIMEOUT_S", 0.05)
        spill = Spill(journal=Journal(directory, bytes_max=1_000_000), stream=stream)
        for _ in range(3):
            await spill.keep([books.finished()])
        assert len(await in_stream(stream)) == 3
        assert len(syncs) == 1
        freed.set()
        await spill.aclose()


class TestStream:
    async def test_redis_without_an_append_only_file_does_not_count(self, redis_server, stream, books):
        async with Redis.from_url(redis_server.url) as client:
            await client.config_set("appendonly", "no")
            try:
                with pytest.raises(StreamRefused, match="appendonly"):
                    await stream.append([encode(books.finished())])
            finally:
                await client.config_set("appendonly", "yes")
        assert await stream.length() == 0

    async def test_a_full_stream_refuses(self, redis_server, books):
        stream = SpillStream(redis_server.url, key="test:full", records_max=2)
        await stream.append([b"1", b"2"])
        with pytest.raises(StreamRefused, match="holds its 2"):
            await stream.append([b"3"])
        await stream.aclose()
