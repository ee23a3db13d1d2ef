"""A batch is recorded whole and each request once, by statement when it is small and by COPY when it is large."""

import pytest

from raymart_billing.records import record_batch
from raymart_billing.records.batch import COPIED_MIN


async def recorded(books) -> tuple[int, int, int]:
    """The customer's requests, their attempts, and its usage records."""
    [row] = await books.fetch(
        "select (select count(*) from request where organization_id = %(id)s)::int,"
        " (select count(*) from attempt a join request r on r.id = a.request_id where organization_id = %(id)s)::int,"
        " (select count(*) from usage_record where organization_id = %(id)s)::int".replace("%(id)s", "%s"),
        books.organization_id, books.organization_id, books.organization_id,
    )  # fmt: skip
    return row


class TestRecordBatch:
    @pytest.mark.parametrize("size", [2, COPIED_MIN - 1, COPIED_MIN, COPIED_MIN + 44])
    async def test_what_is_there_already_is_left_and_the_rest_is_added(self, pool, books, size):
        requests = [books.finished(delivered=turn != 1) for turn in range(size)]
        async with pool.connection() as connection:
            await record_batch(connection, requests[: size // 2], forget_checkpoints=False)
            for _ in range(2):
                await record_batch(connection, requests, forget_checkpoints=True)
        assert await recorded(books) == (size, size, size - 1)

    @pytest.mark.parametrize("size", [2, COPIED_MIN])
    async def test_checkpoints_are_forgotten_only_when_asked(self, pool, books, size):
        requests = [books.finished() for _ in range(size)]
        left = "select count(*) from usage_checkpoint where gateway_id = %s"
        async with pool.connection() as connection:
            for request in requests:
                await connection.execute(
                    "insert into usage_checkpoint (request_id, gateway_id, record) values (%s, %s, %s)",
                    (request.id, books.provider_id, b"x"),
                )
            await record_batch(connection, requests, forget_checkpoints=False)
            assert await books.value(left, books.provider_id) == size
            await record_batch(connection, requests, forget_checkpoints=True)
        assert await books.value(left, books.provider_id) == 0
