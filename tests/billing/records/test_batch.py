"""A batch by one statement: the same rows as by COPY, each once, all or none."""

import psycopg
import pytest
from msgspec.structs import replace

from raymart_billing.records import BatchStatement, copy_requests, encode
from raymart_billing.records.batch import COPIED_MIN
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.ports import Prices, Quantities
from raymart_core.units import Fault
from support.books import fetch

TABLES = {"request": ("id", "id"), "attempt": ("request_id", "position"), "usage_record": ("id", "id")}
"""Each with the column that names the request, and what its rows are ordered by."""


@pytest.fixture
async def connection(pool):
    async with pool.connection() as connection:
        yield connection


@pytest.fixture
def batch():
    return BatchStatement()


async def rows_of(connection, request):
    """All that is stored of it; of a usage record's birth the database keeps the time itself."""
    found = {}
    for table, (column, order) in TABLES.items():
        own = "'created_at'" if table == "usage_record" else "''"
        rows = f"select to_jsonb(t) - {own} from {table} t where {column} = %s order by {order}"
        found[table] = [row for (row,) in await fetch(connection, rows, request.id)]
    return found


async def recorded(books) -> tuple[int, int, int]:
    """How many requests of the customer there are, how many attempts, how many usage records."""
    [row] = await books.fetch(
        "select (select count(*) from request where organization_id = %(id)s)::int,"
        " (select count(*) from attempt a join request r on r.id = a.request_id where organization_id = %(id)s)::int,"
        " (select count(*) from usage_record where organization_id = %(id)s)::int".replace("%(id)s", "%s"),
        books.organization_id, books.organization_id, books.organization_id,
    )  # fmt: skip
    return row


def with_every_field(books):
    """No two of its numbers are the same, so none can stand in another's column."""
    whole = books.finished(
        user_id=new_id(), api_key_id=new_id(), lease_id=new_id(), first_token_ms=11, duration_ms=17
    )
    quantities = Quantities(
        token_prompt=101, token_cached=103, token_completion=107, image_megapixel_step=1_000_000, gpu_second=1_000,
        request=1,
    )  # fmt: skip
    prices = Prices(
        token_prompt=2, token_cached=3, token_completion=5, image_megapixel_step=7, gpu_second=13, request=19
    )
    provider = sum(number * price // unit.scale for (unit, number), (_, price) in zip(quantities.items(), prices.items(), strict=True))  # fmt: skip
    usage = replace(
        whole.usage, quantities=quantities, prices=prices, customer_amount=Money(provider),
        provider_amount=Money(provider - 29), fee_amount=Money(29), exact=False,
    )  # fmt: skip
    failed = replace(
        whole.attempts[0], id=new_id(), outcome="failed", fault=Fault.NETWORK, reason="link lost", tokens_delivered=3,
        first_token_ms=None, duration_ms=23,
    )  # fmt: skip
    return replace(whole, usage=usage, attempts=(failed, *whole.attempts))


class TestRecord:
    @pytest.mark.parametrize("role", ["none", "raymart_runtime"])
    async def test_the_rows_are_those_that_copy_writes(self, connection, batch, books, role):
        for request in (
            with_every_field(books),
            books.finished(),
            books.finished(delivered=False),
            books.finished(delivered=False, attempts=(), finish_reason=None, first_token_ms=None),
        ):
            await batch.record(connection, [request], forget_checkpoints=False)
            by_statement = await rows_of(connection, request)
            other = replace(
                request,
                id=new_id(),
                attempts=tuple(replace(attempt, id=new_id()) for attempt in request.attempts),
            )
            # Of a login that is not exempt from row-level security; the others' is tested by their use.
            await connection.execute(f"set role {role}")
            cursor = await connection.execute("select row_security_active('request')")
            assert await cursor.fetchone() == (role != "none",)
            await copy_requests(connection, [other], may_exist=False)
            await connection.execute("reset role")
            by_copy = await rows_of(connection, other)
            ids = {str(other.id): str(request.id)} | {
                str(b.id): str(a.id) for a, b in zip(request.attempts, other.attempts, strict=True)
            }
            named_alike = {
                table: [{name: ids.get(value, value) for name, value in row.items()} for row in rows]
                for table, rows in by_copy.items()
            }
            assert by_statement == named_alike
            assert len(by_statement["attempt"]) == len(request.attempts)

    async def test_what_is_there_is_left_as_it_is(self, connection, batch, books):
        first = books.finished()
        await batch.record(connection, [first], forget_checkpoints=False)
        before = await rows_of(connection, first)
        again = replace(first, model_asked="another", attempts=(replace(first.attempts[0], id=new_id()),))
        fresh = books.finished()
        await batch.record(connection, [again, fresh], forget_checkpoints=False)
        assert await rows_of(connection, first) == before
        assert await books.is_recorded(fresh.id)

    async def test_one_that_is_twice_in_a_batch_is_written_once(self, connection, batch, books):
        request = books.finished()
        await batch.record(connection, [request, request, request], forget_checkpoints=False)
        assert [len(rows) for rows in (await rows_of(connection, request)).values()] == [1, 1, 1]

    async def test_text_that_cannot_be_stored_is_replaced_and_other_text_kept(self, connection, batch, books):
        texts = {"a\0b": "a?b", "half \ud800": "half ?", "a\\u0000b": "a\\u0000b", "é\n'\"\\": "é\n'\"\\"}
        requests = {text: books.finished(model_asked=text) for text in texts}
        for request in requests.values():
            await batch.record(connection, [request, books.finished()], forget_checkpoints=False)
        for text, request in requests.items():
            [stored] = await fetch(connection, "select model_asked from request where id = %s", request.id)
            assert stored == (texts[text],)

    async def test_one_that_is_refused_takes_all_along_and_the_connection_goes_on(
        self, connection, batch, books
    ):
        good, bad = books.finished(), books.finished()
        bad = replace(bad, usage=replace(bad.usage, customer_amount=Money(1)))
        with pytest.raises(psycopg.errors.CheckViolation):
            await batch.record(connection, [good, bad], forget_checkpoints=False)
        assert not await books.is_recorded(good.id)
        await batch.record(connection, [good], forget_checkpoints=False)
        assert await books.is_recorded(good.id)

    async def test_a_statement_that_cannot_be_prepared_is_prepared_later(self, connection, batch, books):
        """As on a connection whose server was restarted with an older schema for a moment."""
        request = books.finished()
        await connection.execute("begin")
        with pytest.raises(psycopg.errors.SyntaxError):
            await connection.execute("nonsense")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await batch.record(connection, [request], forget_checkpoints=False)
        await connection.rollback()
        await batch.record(connection, [request], forget_checkpoints=False)
        assert await books.is_recorded(request.id)


class TestForgetCheckpoints:
    @pytest.mark.parametrize("forget", [True, False])
    async def test_only_when_asked_and_only_those_of_the_batch(self, connection, batch, books, forget):
        request, other = books.finished(), books.finished()
        for one in (request, other):
            await connection.execute(
                "insert into usage_checkpoint (request_id, gateway_id, record) values (%s, %s, %s)",
                (one.id, new_id(), encode(one)),
            )
        await batch.record(connection, [request], forget_checkpoints=forget)
        left = await fetch(
            connection,
            "select request_id from usage_checkpoint where request_id = any(%s)",
            [request.id, other.id],
        )
        assert {row[0] for row in left} == ({other.id} if forget else {request.id, other.id})
        await connection.execute(
            "delete from usage_checkpoint where request_id = any(%s)", ([request.id, other.id],)
        )


class TestCopiedBatch:
    """By statement when it is small and by COPY when it is large, which nobody can tell by the rows."""

    @pytest.mark.parametrize("size", [2, COPIED_MIN - 1, COPIED_MIN, COPIED_MIN + 44])
    async def test_what_is_there_already_is_left_and_the_rest_is_added(self, connection, batch, books, size):
        requests = [books.finished(delivered=turn != 1) for turn in range(size)]
        await batch.record(connection, requests[: size // 2], forget_checkpoints=False)
        for _ in range(2):
            await batch.record(connection, requests, forget_checkpoints=True)
        assert await recorded(books) == (size, size, size - 1)

    @pytest.mark.parametrize("size", [2, COPIED_MIN])
    async def test_checkpoints_are_forgotten_only_when_asked(self, connection, batch, books, size):
        requests = [books.finished() for _ in range(size)]
        left = "select count(*) from usage_checkpoint where gateway_id = %s"
        for request in requests:
            await connection.execute(
                "insert into usage_checkpoint (request_id, gateway_id, record) values (%s, %s, %s)",
                (request.id, books.provider_id, b"x"),
            )
        await batch.record(connection, requests, forget_checkpoints=False)
        assert await books.value(left, books.provider_id) == size
        await batch.record(connection, requests, forget_checkpoints=True)
        assert await books.value(left, books.provider_id) == 0
