"""What is read from the rollups: the customer's own, by day, by hour, by month, apart by dimension."""

from datetime import UTC, date, datetime, timedelta

import pytest
from msgspec.structs import replace

from raymart_billing.posting import post_requests
from raymart_billing.records import copy_requests
from raymart_billing.rollups import Dimension, Scope, usage_by_day, usage_by_hour, usage_summary
from raymart_core.errors import InvalidRequest
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope
from support.books import Books
from support.market import make_revision

TODAY = datetime.now(UTC).date()
DAY = timedelta(days=1)


@pytest.fixture
async def session(sessions):
    async with session_scope(sessions) as session:
        yield session


async def use(books, count: int, **changes) -> None:
    await books.fund(10**9)
    requests = [books.finished(**changes) for _ in range(count)]
    async with books.pool.connection() as connection:
        await copy_requests(connection, requests, may_exist=False)
        await post_requests(connection, [request.id for request in requests])


def at(moment: datetime):
    """A request id of that arrival."""
    return type(new_id())(int=(int(moment.timestamp() * 1000) << 80) | (new_id().int & ((1 << 80) - 1)))


class TestByDay:
    async def test_days_are_in_order_and_only_the_customers_own(self, session, books, pool):
        for days_ago in (0, 1, 1, 2):
            moment = datetime.combine(TODAY, datetime.min.time(), UTC) - days_ago * DAY + timedelta(minutes=1)
            await use(books, 1, id=at(moment))
        await use(Books(pool), 3)
        scope = Scope(organization_id=books.organization_id)
        days = await usage_by_day(session, scope, since=TODAY - 2 * DAY, until=TODAY + DAY)
        assert [(day.starts_at.date(), day.totals.requests) for day in days] == [
            (TODAY - 2 * DAY, 1), (TODAY - DAY, 2), (TODAY, 1),
        ]  # fmt: skip
        assert days[1].totals.customer_nano_usd == 240
        assert days[1].totals.tokens_completion == 40
        assert len(await usage_by_day(session, scope, since=TODAY - DAY, until=TODAY)) == 1

    async def test_a_provider_sees_what_it_sold(self, session, books):
        await use(books, 4)
        scope = Scope(provider_id=books.provider_id)
        [day] = await usage_by_day(session, scope, since=TODAY - DAY, until=TODAY + DAY)
        assert (day.totals.requests, day.totals.provider_nano_usd) == (4, 4 * 108)

    @pytest.mark.parametrize("days", [0, -1, 401])
    async def test_a_range_of_nothing_or_of_years_is_refused(self, session, books, days):
        scope = Scope(organization_id=books.organization_id)
        with pytest.raises(InvalidRequest, match="at most 400 days"):
            await usage_by_day(session, scope, since=TODAY, until=TODAY + days * DAY)


class TestByHour:
    async def test_hours_are_apart(self, session, books):
        now = datetime.now(UTC).replace(minute=5, second=0, microsecond=0)
        for hours_ago in (0, 0, 3):
            await use(books, 1, id=at(now - timedelta(hours=hours_ago)))
        scope = Scope(organization_id=books.organization_id)
        hours = await usage_by_hour(session, scope, since=now - DAY, until=now + DAY)
        assert [hour.totals.requests for hour in hours] == [1, 2]
        assert hours[1].starts_at == now.replace(minute=0)


class TestBy:
    async def test_sums_are_apart_by_each_dimension(self, session, sessions, books):
        async with session_scope(sessions) as writing:
            revisions = [await make_revision(writing) for _ in range(2)]
        project, key = new_id(), new_id()
        await use(books, 2, project_id=project, api_key_id=key)
        await use(books, 3, project_id=new_id(), api_key_id=None)
        template = books.finished().usage
        for revision in revisions:
            usage = replace(template, revision_id=revision.id)
            await use(books, 1, project_id=project, api_key_id=key, usage=usage)
        scope = Scope(organization_id=books.organization_id)
        span = {"since": TODAY - DAY, "until": TODAY + DAY}
        by_project = await usage_by_day(session, scope, **span, by=Dimension.PROJECT)
        assert sorted(row.totals.requests for row in by_project) == [3, 4]
        by_key = {
            row.member_id: row.totals.requests
            for row in await usage_by_day(session, scope, **span, by=Dimension.API_KEY)
        }
        assert by_key == {key: 4, None: 3}
        by_model = {
            row.member_id: row.totals.requests
            for row in await usage_by_day(session, scope, **span, by=Dimension.MODEL)
        }
        assert by_model == {revisions[0].model_id: 1, revisions[1].model_id: 1, None: 5}

        summary = await usage_summary(session, scope, month=TODAY)
        assert summary.totals.requests == 7
        assert {row.member_id: row.totals.requests for row in summary.by[Dimension.API_KEY]} == by_key
        assert {row.member_id: row.totals.requests for row in summary.by[Dimension.MODEL]} == by_model
        assert [row.totals.requests for row in summary.by[Dimension.PROVIDER]] == [7]
        dearest = [row.totals.customer_nano_usd for row in summary.by[Dimension.PROJECT]]
        assert dearest == sorted(dearest, reverse=True)


class TestNarrowed:
    @pytest.mark.parametrize("by", [None, *Dimension])
    async def test_a_customers_days_are_the_sum_of_its_projects(self, session, books, by):
        """A customer's are read from the parts of its days, a project's from the combinations."""
        projects = [new_id(), new_id()]
        for project, key in ((projects[0], new_id()), (projects[0], None), (projects[1], new_id())):
            await use(books, 2, project_id=project, api_key_id=key)
        span = {"since": TODAY - DAY, "until": TODAY + DAY, "by": by}
        whole, narrowed = {}, {}
        for row in await usage_by_day(session, Scope(organization_id=books.organization_id), **span):
            whole[row.member_id] = row.totals.customer_nano_usd
        for project in projects:
            scope = Scope(organization_id=books.organization_id, project_id=project)
            for row in await usage_by_day(session, scope, **span):
                narrowed[row.member_id] = narrowed.get(row.member_id, 0) + row.totals.customer_nano_usd
        assert narrowed == whole
        assert sum(whole.values()) == 6 * 120

    async def test_a_months_totals_are_the_same_from_parts_and_combinations(self, session, books):
        await use(books, 3, api_key_id=None)
        whole = await usage_summary(session, Scope(organization_id=books.organization_id), month=TODAY)
        narrowed = await usage_summary(session, Scope(provider_id=books.provider_id), month=TODAY)
        assert whole == narrowed
        assert whole.totals.requests == 3
        assert [len(whole.by[by]) for by in Dimension] == [3, 1, 1, 1]


class TestSummary:
    async def test_a_month_without_usage_is_zero(self, session, books):
        summary = await usage_summary(
            session, Scope(organization_id=books.organization_id), month=date(2020, 2, 29)
        )
        assert summary.month == date(2020, 2, 1)
        assert summary.totals.requests == 0
        assert not any(summary.by.values())
