"""`raymart usage`, on a database of its own."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime

import psycopg
import pytest
from typer.testing import CliRunner

from raymart_billing.connections import make_pool
from raymart_billing.posting import post_requests
from raymart_billing.records import RecordOrigin, copy_requests, encode, restore
from raymart_billing.spill import Journal
from raymart_core.errors import Conflict, NotFound
from raymart_core.money import Money
from raymart_graphql.operator.usage_commands import usage
from raymart_local.ports import free_port
from support.books import Books, with_usage

MONTH = f"{datetime.now(UTC):%Y-%m}"


@pytest.fixture
def url(migrated_database_url: str) -> str:
    return migrated_database_url


@pytest.fixture
def raymart(url, tmp_path):
    environment = {
        "DATABASE_URL": url,
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "RAYMART_TOKEN_SECRET": "0" * 32,
        "RAYMART_DATA_DIR": str(tmp_path),
    }

    def run(*arguments: str):
        return CliRunner().invoke(usage, arguments, env=environment, catch_exceptions=False)

    return run


def with_books(url, work):
    async def run():
        async with make_pool(url, size_max=2) as pool:
            return await work(Books(pool))

    return asyncio.run(run())


async def use(books: Books, count: int) -> None:
    await books.fund(10**9)
    requests = [books.finished() for _ in range(count)]
    async with books.pool.connection() as connection:
        await copy_requests(connection, requests, may_exist=False)
        await post_requests(connection, [request.id for request in requests])


class TestSpilled:
    def test_what_waits_and_what_was_set_aside_is_shown_and_tried_again(self, url, raymart, tmp_path):
        async def poison(books: Books):
            wrong = with_usage(books.finished(), customer_amount=Money(1))
            async with books.pool.connection() as connection:
                await restore(connection, [encode(wrong), b"\x01noise"], origin=RecordOrigin.FILE)
            return wrong.id

        request_id = with_books(url, poison)
        journal = Journal(tmp_path / "spill", bytes_max=10**6)
        journal.append([b"x" * 88])
        journal.seal()
        shown = raymart("spilled", "-o", "json")
        rows = json.loads(shown.stdout)
        assert {row["request_id"] for row in rows} == {None, f"req_{request_id.hex}"}
        assert "? records in Redis, 1 files with 100 bytes here; set aside: 2" in shown.stderr
        assert raymart("retry-spilled").stdout.endswith("0 recorded, 2 still set aside\n")

        async def mend(books: Books):
            """As after an upgrade that takes what the one before refused."""
            whole = books.finished(id=request_id)
            await books.fetch(
                "update usage_set_aside set record = %s where request_id = %s", encode(whole), request_id
            )

        with_books(url, mend)
        assert raymart("retry-spilled").stdout.endswith("1 recorded, 1 still set aside\n")
        assert len(json.loads(raymart("spilled", "-o", "json").stdout)) == 1


class TestMonths:
    def test_an_old_month_is_archived_only_when_it_is_said(self, url, raymart):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("select ensure_usage_partitions('2025-01-01', 1)")
            assert raymart("archive-month", "--month", "2025-01").stdout.startswith(
                "would archive 0 requests"
            )
            listed = [row["month"] for row in json.loads(raymart("months", "-o", "json").stdout)]
            assert listed[0] == "2025-01-01"
            assert raymart("archive-month", "--month", "2025-01", "--yes").stdout.startswith(
                "archived 0 requests"
            )
            assert connection.execute(
                "select to_regclass('usage_archive.request_202501') is not null"
            ).fetchone() == (True,)
        with pytest.raises(NotFound, match="not in the database"):
            raymart("archive-month", "--month", "2025-01", "--yes")

    def test_this_month_stays(self, raymart):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="too young"):
            raymart("archive-month", "--month", MONTH, "--yes")


class TestRollups:
    def test_a_difference_is_reported_and_mended(self, url, raymart):
        with_books(url, lambda books: use(books, 5))
        assert (
            raymart("rebuild-rollups", "--month", MONTH).stdout
            == f"the rollups of {MONTH} agree with its records\n"
        )
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("update usage_hour set requests = requests + 1")
        with pytest.raises(Conflict, match="rows of hours, 0 of days and 0 of their parts"):
            raymart("rebuild-rollups", "--month", MONTH)
        assert "summed anew" in raymart("rebuild-rollups", "--month", MONTH, "--fix").stdout
        assert "agree" in raymart("rebuild-rollups", "--month", MONTH).stdout


class TestExport:
    def test_a_month_is_written_as_exact_csv(self, url, raymart):
        with_books(url, lambda books: use(books, 5))
        rows = list(
            csv.DictReader(io.StringIO(raymart("export", "--month", MONTH, "--by", "provider").stdout))
        )
        [row] = rows
        assert row["requests"] == "5"
        assert row["customer_usd"] == "0.000000600"
        assert row["starts_at"] == f"{datetime.now(UTC).date()}T00:00:00+00:00"
        hours = list(csv.DictReader(io.StringIO(raymart("export", "--month", MONTH, "--hourly").stdout)))
        assert sum(int(hour["requests"]) for hour in hours) == 5

    def test_a_customer_that_is_not_there_is_named(self, raymart):
        with pytest.raises(NotFound, match="nobody"):
            raymart("export", "--month", MONTH, "--organization", "nobody")
