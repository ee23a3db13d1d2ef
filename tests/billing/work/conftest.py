"""Fixtures of background work: names of a test's own, and what its rows say."""

from typing import NamedTuple

import pytest

from raymart_core.ids import new_id


class Row(NamedTuple):
    """An outbox row."""

    state: str
    attempts: int
    fence: int
    last_error: str | None


class Work:
    """The rows of one task's name."""

    def __init__(self, books) -> None:
        self.books = books
        self.name = f"test.{new_id().hex}"

    async def enqueue(self, subject="a", *, due_in_s=0):
        """An outbox row, as another process would have committed it."""
        return await self.books.value(
            "insert into outbox (id, task, subject, due_at) values"
            " (%s, %s, %s, clock_timestamp() + make_interval(secs => %s)) returning id",
            new_id(),
            self.name,
            subject,
            due_in_s,
        )

    async def row(self, outbox_id) -> Row:
        [found] = await self.books.fetch(
            "select state, attempts, fence, last_error from outbox where id = %s", outbox_id
        )
        return Row(*found)

    async def runs(self):
        """(attempt, state, error) of each run, oldest first."""
        return await self.books.fetch(
            "select attempt, state, error from task_run where name = %s order by id", self.name
        )

    async def due_in_s(self, outbox_id) -> float:
        return float(
            await self.books.value(
                "select extract(epoch from due_at - clock_timestamp()) from outbox where id = %s", outbox_id
            )
        )

    async def leave_running(self, outbox_id, *, worker, lease_s):
        """What a worker leaves that died with the row."""
        await self.books.fetch(
            "update outbox set state = 'running', attempts = attempts + 1, fence = fence + 1, locked_by = %s,"
            " locked_until = clock_timestamp() + make_interval(secs => %s) where id = %s",
            worker,
            lease_s,
            outbox_id,
        )
        await self.books.fetch(
            "insert into task_run (id, outbox_id, name, subject, attempt, fence, worker)"
            " select %s, id, task, subject, attempts, fence, locked_by from outbox where id = %s",
            new_id(),
            outbox_id,
        )


@pytest.fixture
def work(books):
    """A task's name nobody else uses, and its rows."""
    return Work(books)
