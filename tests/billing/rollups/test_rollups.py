"""Rollups hold each posted usage once, in its hour and day, whatever is retried and however many post."""

import asyncio
import random
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from raymart_billing.posting import post_requests
from raymart_billing.records import copy_requests
from raymart_billing.rollups import days_of, drift_of, drifting_days, rebuild
from raymart_core.ids import new_id
from support.books import price, with_usage

MEASURES = "requests, tokens_prompt, tokens_completion, customer_nano_usd, provider_nano_usd, fee_nano_usd"


async def record(pool, requests) -> list:
    async with pool.connection() as connection:
        await copy_requests(connection, requests, may_exist=False)
    return [request.id for request in requests]


async def post(pool, ids) -> int:
    async with pool.connection() as connection:
        return await post_requests(connection, ids)


async def rolled_up(books, table: str) -> tuple:
    """The customer's measures, summed over all its rows."""
    sums = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in MEASURES.split(", "))
    [row] = await books.fetch(f"select {sums} from {table} where organization_id = %s", books.organization_id)
    return row


async def drift(books) -> dict[str, int]:
    today = datetime.now(UTC).date()
    return dict(await books.fetch("select kind, rows from usage_rollup_drift(%s)", today))


@pytest.fixture
async def funded(books):
    await books.fund(10**9)
    return books


class TestRollUp:
    async def test_each_usage_is_in_its_hour_and_day_once(self, pool, funded):
        requests = [funded.finished(tokens_completion=turn) for turn in range(50)]
        ids = await record(pool, requests)
        for _ in range(3):
            await post(pool, ids)
        amounts = sum(map(price, requests))
        fees = sum(request.usage.fee_amount.amount for request in requests)
        expected = (50, 500, sum(range(50)), amounts, amounts - fees, fees)
        assert await rolled_up(funded, "usage_hour") == expected
        assert await rolled_up(funded, "usage_day") == expected

    async def test_what_is_recorded_and_not_posted_is_not_in_them(self, pool, funded):
        await record(pool, [funded.finished()])
        assert (await rolled_up(funded, "usage_hour"))[0] == 0

    async def test_a_batch_that_the_ledger_refuses_is_not_in_them(self, pool, funded):
        """Marked, captured and counted are one statement."""
        [request_id] = ids = await record(pool, [funded.finished()])
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            await post_requests(connection, ids)
        assert (await rolled_up(funded, "usage_day"))[0] == 0
        assert await funded.value("select posted_at from usage_record where id = %s", request_id) is None

    async def test_rows_are_apart_by_project_key_revision_and_provider(self, pool, funded):
        project, key = new_id(), new_id()
        requests = [
            funded.finished(project_id=project_id, api_key_id=api_key_id)
            for project_id in (project, new_id())
            for api_key_id in (key, None)
            for _ in range(2)
        ]
        await post(pool, await record(pool, requests))
        rows = await funded.fetch(
            "select project_id, api_key_id, sum(requests)::int from usage_hour where organization_id = %s"
            " group by 1, 2",
            funded.organization_id,
        )
        assert len(rows) == 4
        assert {row[2] for row in rows} == {2}

    async def test_the_hour_is_that_of_the_arrival_and_not_of_the_posting(self, pool, funded):
        moment = datetime.now(UTC) - timedelta(days=2, hours=3)
        late = funded.finished(id=id_of(moment))
        await post(pool, await record(pool, [late]))
        hour = moment.replace(minute=0, second=0, microsecond=0)
        assert await funded.fetch(
            "select hour from usage_hour where organization_id = %s", funded.organization_id
        ) == [(hour,)]
        assert await funded.fetch(
            "select day from usage_day where organization_id = %s", funded.organization_id
        ) == [(hour.date(),)]

    async def test_a_days_parts_are_each_whole(self, pool, funded):
        project = new_id()
        requests = [
            with_usage(funded.finished(project_id=project, api_key_id=key), revision_id=project)
            for key in (new_id(), None)
            for _ in range(3)
        ]
        await post(pool, await record(pool, requests))
        parts = await funded.fetch(
            "select project_id is null, api_key_id is null, revision_id is null, provider_id is null, requests"
            " from usage_day_part where organization_id = %s order by 1, 2, 3",
            funded.organization_id,
        )
        assert parts == [
            (False, False, True, True, 3),
            (False, True, True, True, 3),
            (True, True, False, False, 6),
        ]

    async def test_posters_side_by_side_count_each_usage_once(self, pool, funded):
        ids = await record(pool, [funded.finished(api_key_id=None) for _ in range(300)])
        orders = [random.sample(ids, len(ids)) for _ in range(6)]
        batches = [order[start : start + 50] for order in orders for start in range(0, 300, 50)]
        posted = await asyncio.gather(*[post(pool, batch) for batch in batches])
        assert sum(posted) == 300
        assert (await rolled_up(funded, "usage_hour"))[0] == 300
        assert (await rolled_up(funded, "usage_day"))[0] == 300
        assert (await rolled_up(funded, "usage_day_part"))[0] == 2 * 300


def id_of(moment: datetime):
    return type(new_id())(int=(int(moment.timestamp() * 1000) << 80) | (new_id().int & ((1 << 80) - 1)))


async def rows_of(books) -> list[list[tuple]]:
    """The customer's rollups, whole."""
    return [
        await books.fetch(
            f"select * from {table} t where organization_id = %s order by t::text", books.organization_id
        )
        for table in ("usage_hour", "usage_day", "usage_day_part")
    ]


async def use_over_two_days(pool, books) -> set[date]:
    """Post 400 usages in batches that cut across hours, days and dimensions, some of them twice; returns their days."""
    draw = random.Random(7)
    midnight = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)
    projects, keys = [new_id() for _ in range(2)], [new_id(), new_id(), None]
    requests = []
    for _ in range(400):
        request = books.finished(
            id=id_of(midnight - timedelta(milliseconds=draw.randrange(1, 2 * 86_400_000))),
            tokens_completion=draw.randrange(50), project_id=draw.choice(projects), api_key_id=draw.choice(keys),
        )  # fmt: skip
        requests.append(with_usage(request, revision_id=projects[draw.randrange(2)]))
    ids = await record(pool, requests)
    for start in range(0, 400, 40):
        await post(pool, ids[max(0, start - 10) : start + 40])
    return {(midnight - timedelta(days=days)).date() for days in (1, 2)}


class TestRebuild:
    async def test_it_gives_the_rows_that_posting_gave(self, pool, funded):
        days = await use_over_two_days(pool, funded)
        before = await rows_of(funded)
        assert sum(row[6] for row in before[0]) == sum(row[6] for row in before[1]) == 400
        assert 12 <= len(before[1]) <= 24 < len(before[0])
        by_key, by_offer = (
            [row for row in before[2] if (row[4] is None) is is_key] for is_key in (True, False)
        )
        assert sum(row[6] for row in by_key) == sum(row[6] for row in by_offer) == 400
        assert (len(by_key), len(by_offer)) == (2 * 2 * 3, 2 * 2)
        for day in days:
            await funded.value("select usage_rollup_rebuild(%s)", day)
        assert await rows_of(funded) == before

    async def test_a_day_is_summed_anew_and_those_beside_it_are_left(self, pool, funded, owner_url):
        earlier, later = sorted(await use_over_two_days(pool, funded))
        before = await rows_of(funded)
        async with await psycopg.AsyncConnection.connect(owner_url) as superuser:
            await superuser.execute(
                "update usage_hour set requests = requests + 1 where organization_id = %s",
                (funded.organization_id,),
            )
        async with pool.connection() as connection:
            for day in (earlier, later):
                assert (await drift_of(connection, day)).hour_rows > 0
            await rebuild(connection, earlier)
            assert not await drift_of(connection, earlier)
            drifting = [drift.day async for drift in drifting_days(connection, later)]
            # As after an interruption: what was done is passed over, what is left is found.
            assert later in drifting
            assert earlier not in drifting
            await rebuild(connection, later)
        assert await rows_of(funded) == before

    async def test_they_agree_with_the_records_and_a_wrong_row_is_found_and_mended(
        self, pool, funded, owner_url
    ):
        await post(pool, await record(pool, [funded.finished() for _ in range(20)]))
        today = datetime.now(UTC).date()
        await funded.value("select usage_rollup_rebuild(%s)", today)  # Other tests write rows of their own.
        assert await drift(funded) == {"hour": 0, "day": 0, "part": 0}
        before = await rolled_up(funded, "usage_day")

        async with await psycopg.AsyncConnection.connect(owner_url) as superuser:
            await superuser.execute(
                "update usage_day set customer_nano_usd = customer_nano_usd + 1 where organization_id = %s"
                " and ctid = (select min(ctid) from usage_day where organization_id = %s)",
                (funded.organization_id, funded.organization_id),
            )
        assert await drift(funded) == {"hour": 0, "day": 2, "part": 0}
        await funded.value("select usage_rollup_rebuild(%s)", today)
        assert await drift(funded) == {"hour": 0, "day": 0, "part": 0}
        assert await rolled_up(funded, "usage_day") == before

    async def test_nothing_is_counted_twice_by_a_rebuild_beside_posters(self, pool, funded):
        ids = await record(pool, [funded.finished(api_key_id=None) for _ in range(200)])
        today = datetime.now(UTC).date()
        posts = [post(pool, ids[start : start + 20]) for start in range(0, 200, 20)]
        rebuilds = [funded.value("select usage_rollup_rebuild(%s)", today) for _ in range(3)]
        await asyncio.gather(*posts[:4], rebuilds[0], *posts[4:7], rebuilds[1], *posts[7:], rebuilds[2])
        assert (await rolled_up(funded, "usage_hour"))[0] == 200
        assert (await rolled_up(funded, "usage_day"))[0] == 200

    def test_a_month_has_each_of_its_days(self):
        assert days_of(date(2024, 2, 17)) == [date(2024, 2, day) for day in range(1, 30)]
        assert days_of(date(2026, 12, 31))[-1] == date(2026, 12, 31)

    async def test_an_archived_month_is_not_rebuilt_to_nothing(self, books):
        with pytest.raises(Exception, match="not in the database"):
            await books.value("select usage_rollup_rebuild(%s)", date(2019, 1, 1))
