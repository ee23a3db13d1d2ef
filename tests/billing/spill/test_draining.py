"""What was spilled is recorded exactly once, whoever drains, however often it is begun anew."""

import asyncio

import pytest

from raymart_billing.connections import make_pool
from raymart_billing.records import RecordOrigin, encode, restore
from raymart_billing.spill import Journal, drain, draining
from raymart_billing.spill.journal import segments
from raymart_core.money import Money
from support.books import with_usage


async def recorded(books, requests) -> int:
    return await books.value("select count(*) from request where id = any(%s)", [r.id for r in requests])


async def rows(books) -> tuple:
    """(requests, attempts, usages, nano-USD) of this test's customer."""
    [row] = await books.fetch(
        "select count(*), (select count(*) from attempt a join request r on r.id = a.request_id"
        " where r.organization_id = %(id)s), (select count(*) from usage_record where organization_id = %(id)s),"
        " (select sum(customer_nano_usd) from usage_record where organization_id = %(id)s)"
        " from request where organization_id = %(id)s".replace("%(id)s", f"'{books.organization_id}'"),
    )
    return row


@pytest.fixture
async def drained(pool, directory, stream):
    async def run():
        async with pool.connection() as connection:
            return await drain(connection, directory=directory, stream=stream)

    return run


class TestOnce:
    async def test_both_copies_become_one_row_and_nothing_is_left(
        self, spill, drained, books, directory, stream
    ):
        requests = [books.finished() for _ in range(7)] + [books.finished(delivered=False)]
        await spill.keep(requests)
        await spill.seal()
        await drained()
        assert await rows(books) == (8, 8, 7, 7 * 120)
        assert segments(directory) == []
        assert await stream.length() == 0

    async def test_what_was_committed_before_the_connection_broke_is_left_as_it_is(
        self, spill, drained, books, pool
    ):
        """In doubt at the outage: the writer spilled what had in fact been committed."""
        request = books.finished()
        async with pool.connection() as connection:
            await restore(connection, [encode(request)], origin=RecordOrigin.FILE)
        await spill.keep([request, books.finished()])
        await spill.seal()
        await drained()
        assert await rows(books) == (2, 2, 2, 240)

    async def test_a_drain_that_dies_after_its_commit_is_finished_by_the_next(
        self, *, spill, drained, books, directory, stream, monkeypatch
    ):
        requests = [books.finished() for _ in range(5)]
        await spill.keep(requests)
        await spill.seal()
        with monkeypatch.context() as patch:
            patch.setattr(draining, "BATCH_MAX", 2)
            patch.setattr(draining.Path, "unlink", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                await drained()
        assert await recorded(books, requests) == 5
        assert len(segments(directory)) == 1
        assert await stream.length() == 5
        await drained()
        assert await rows(books) == (5, 5, 5, 5 * 120)
        assert segments(directory) == []
        assert await stream.length() == 0

    async def test_many_at_once_record_each_once(self, spill, books, database_url, directory, stream):
        for _ in range(4):
            await spill.keep([books.finished() for _ in range(50)])
            await spill.seal()
        async with make_pool(database_url, size_max=6) as pool:

            async def one() -> None:
                async with pool.connection() as connection:
                    await drain(connection, directory=directory, stream=stream)

            await asyncio.gather(*[one() for _ in range(6)])
        assert await rows(books) == (200, 200, 200, 200 * 120)
        assert segments(directory) == []

    async def test_the_file_of_a_living_process_is_left_to_it(self, spill, drained, books, directory, stream):
        await spill.keep([books.finished()])
        await drained()
        assert len(segments(directory)) == 1
        await spill.seal()
        await drained()
        assert segments(directory) == []
        assert await rows(books) == (1, 1, 1, 120)


class TestPoison:
    async def test_what_cannot_become_rows_is_set_aside_alone_and_named(
        self, drained, books, directory, stream, spill
    ):
        good = [books.finished() for _ in range(20)]
        wrong = with_usage(books.finished(), customer_amount=Money(1))
        await spill.keep([*good[:10], wrong, *good[10:]])
        await stream.append([b"\x01noise", b"\x09" + encode(books.finished())[1:]])
        await spill.seal()
        done = await drained()
        assert await recorded(books, good) == 20
        assert done.set_aside == 4  # Of the wrong one both copies were found wrong, and one is kept.
        assert await stream.length() == 0
        assert segments(directory) == []
        [(reason,)] = await books.fetch("select reason from usage_set_aside where request_id = %s", wrong.id)
        assert "amount_is_usage_times_price" in reason

    async def test_damaged_bytes_of_a_file_are_kept_and_the_others_recorded(
        self, drained, books, directory, stream
    ):
        journal = Journal(directory, bytes_max=1_000_000)
        requests = [books.finished() for _ in range(3)]
        journal.append([encode(request) for request in requests])
        journal.seal()
        [path] = segments(directory)
        content = bytearray(path.read_bytes())
        content[100] ^= 255
        path.write_bytes(content)
        done = await drained()
        assert (done.recorded, done.set_aside) == (2, 1)
        assert await recorded(books, requests) == 2
        assert (
            await books.value("select count(*) from usage_set_aside where reason like %s", f"%{path.name}%")
            == 1
        )


class TestCheckpoints:
    async def test_a_drained_record_ends_its_checkpoint(self, spill, drained, books):
        request = books.finished()
        await books.fetch(
            "insert into usage_checkpoint (request_id, gateway_id, record) values (%s, %s, %s)",
            request.id, request.id, b"older",
        )  # fmt: skip
        await spill.keep([request])
        await spill.seal()
        await drained()
        assert (
            await books.value("select count(*) from usage_checkpoint where request_id = %s", request.id) == 0
        )
