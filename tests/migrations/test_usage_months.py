"""Usage lies in partitions by the month of its id; months are made ahead and archived when they are old."""

from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from raymart_core.ids import new_id
from raymart_marketplace.db import migrate


def id_of(moment: datetime, tail: int = 1) -> UUID:
    """A UUIDv7 of `moment`."""
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | tail)


def add_request(connection: psycopg.Connection, request_id: UUID) -> None:
    connection.execute(
        "insert into request (id, organization_id, project_id, surface, model_asked, model_served, state, streamed,"
        " duration_ms) values (%s, %s, %s, 'rest', 'm', 'm', 'completed', false, 1)",
        (request_id, new_id(), new_id()),
    )


def add_usage(connection: psycopg.Connection, request_id: UUID, *, posted: bool) -> None:
    connection.execute(
        "insert into usage_record (id, organization_id, project_id, provider_id, endpoint_id, offer_id, revision_id,"
        " tokens_prompt, tokens_completion, price_prompt_nano_usd, price_completion_nano_usd, customer_nano_usd,"
        " provider_nano_usd, fee_nano_usd, exact, posted_at)"
        " select %(id)s, %(id)s, %(id)s, %(id)s, %(id)s, %(id)s, %(id)s, 1, 1, 1, 1, 2, 2, 0, true,"
        " case when %(posted)s then now() end",
        {"id": request_id, "posted": posted},
    )


def partition_of(connection: psycopg.Connection, request_id: UUID) -> str:
    [(name,)] = connection.execute(
        "select tableoid::regclass::text from request where id = %s", (request_id,)
    ).fetchall()
    return name.removeprefix("usage_month.")


@pytest.fixture
def connection(empty_database_url: str):
    migrate.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


class TestMigration:
    def test_rows_of_before_are_moved_into_their_months_and_back(self, empty_database_url: str):
        migrate.upgrade(empty_database_url, "0005")
        months = [datetime(2025, 11, 30, 23, 59, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)]
        ids = [*map(id_of, months), new_id(), UUID(int=5)]
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            for request_id in ids:
                add_request(connection, request_id)
            connection.execute(
                "update request set created_at = '2025-11-30 23:59:59+00' where id = %s", (ids[0],)
            )
            before = connection.execute("select * from request order by id").fetchall()
            migrate.upgrade(empty_database_url, "0006")
            assert connection.execute("select * from request order by id").fetchall() == before
            this_month = f"request_{datetime.now(UTC):%Y%m}"
            assert [partition_of(connection, request_id) for request_id in ids] == [
                "request_202511",
                "request_202602",
                this_month,
                "request_default",
            ]
            migrate.downgrade(empty_database_url, "0005")
            assert connection.execute("select * from request order by id").fetchall() == before


class TestParts:
    def test_later_parts_stay_as_usage_of_their_own_when_the_way_back_is_taken(self, empty_database_url: str):
        migrate.upgrade(empty_database_url, "0050")
        request_id, ordinary = new_id(), new_id()
        columns = "id, organization_id, tokens_completion, customer_nano_usd, posted_at"
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            add_usage(connection, ordinary, posted=True)
            migrate.upgrade(empty_database_url, "0051")
            add_usage(connection, request_id, posted=False)
            connection.execute(
                "insert into usage_record select (jsonb_populate_record(u, jsonb_build_object("
                "'id', usage_part_id(u.id, 1), 'continues_id', u.id, 'part', 1, 'tokens_prompt', 0,"
                " 'customer_nano_usd', 1, 'provider_nano_usd', 1))).* from usage_record u where id = %s",
                (request_id,),
            )
            before = connection.execute(f"select {columns} from usage_record order by id").fetchall()
            assert len(before) == 3
            migrate.downgrade(empty_database_url, "0050")
            assert connection.execute(f"select {columns} from usage_record order by id").fetchall() == before
            migrate.upgrade(empty_database_url, "0051")
            parts = connection.execute("select part, continues_id from usage_record").fetchall()
            assert parts == [(0, None)] * 3


class TestMonths:
    def test_this_month_and_three_more_are_there_from_the_start(self, connection):
        months = [month for month, *_ in connection.execute("select * from usage_months()")]
        assert len(months) >= 4
        assert months[0] == datetime.now(UTC).date().replace(day=1)

    def test_a_month_is_made_once_and_what_came_early_moves_into_it(self, connection):
        early = id_of(datetime(2031, 5, 1, tzinfo=UTC))
        late = id_of(datetime(2031, 5, 31, 23, 59, 59, 999_000, tzinfo=UTC))
        after = id_of(datetime(2031, 6, 1, tzinfo=UTC))
        for request_id in (early, late, after):
            add_request(connection, request_id)
        assert partition_of(connection, early) == "request_default"
        make = "select ensure_usage_partitions('2031-05-17', 1)"
        assert connection.execute(make).fetchone() == (3,)
        assert connection.execute(make).fetchone() == (0,)
        assert partition_of(connection, early) == partition_of(connection, late) == "request_203105"
        assert partition_of(connection, after) == "request_default"

    def test_one_record_a_request_holds_in_every_partition(self, connection):
        request_id = new_id()
        add_request(connection, request_id)
        with pytest.raises(psycopg.errors.UniqueViolation):
            add_request(connection, request_id)

    def test_an_arrival_is_read_from_its_id_to_the_millisecond(self, connection):
        moment = datetime(2026, 11, 20, 13, 59, 59, 123_000, tzinfo=UTC)
        assert connection.execute("select usage_arrival(%s)", (id_of(moment),)).fetchone() == (moment,)

    @pytest.mark.parametrize("months", [0, -1, 121])
    def test_an_absurd_number_of_months_is_refused(self, connection, months):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="1 to 120"):
            connection.execute("select ensure_usage_partitions('2031-05-17', %s)", (months,))


class TestArchive:
    @pytest.fixture
    def old(self, connection) -> UUID:
        connection.execute("select ensure_usage_partitions('2025-01-01', 1)")
        request_id = id_of(datetime(2025, 1, 15, tzinfo=UTC))
        add_request(connection, request_id)
        return request_id

    def test_an_old_month_leaves_the_tables_and_keeps_its_rows(self, connection, old):
        add_usage(connection, old, posted=True)
        connection.execute("select detach_usage_month('2025-01-01')")
        assert connection.execute("select count(*) from request where id = %s", (old,)).fetchone() == (0,)
        assert connection.execute("select id from usage_archive.request_202501").fetchall() == [(old,)]
        assert connection.execute("select ensure_usage_partitions('2025-01-01', 1)").fetchone() == (0,)

    def test_a_month_with_unposted_usage_stays(self, connection, old):
        add_usage(connection, old, posted=False)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not all posted"):
            connection.execute("select detach_usage_month('2025-01-01')")
        assert connection.execute("select count(*) from request where id = %s", (old,)).fetchone() == (1,)

    def test_this_month_and_the_last_stay(self, connection):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="too young"):
            connection.execute("select detach_usage_month((now() - interval '25 days')::date)")
