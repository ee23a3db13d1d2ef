"""What is set, in memory: the lower of two binds, and changes are heard of."""

import asyncio

import pytest
from sqlalchemy import text

from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.gateway.rate_limits.book import LimitBook
from raymart_marketplace.gateway.rate_limits.limits import Level, Limits
from raymart_marketplace.gateway.rate_limits.models import LimitSetter
from raymart_marketplace.gateway.rate_limits.service import SetLimit, remove_limit, set_limit, set_limits_of

DEFAULT = Limits(requests_per_minute=1_000, concurrent_requests=10)


@pytest.fixture
def book(sessions) -> LimitBook:
    return LimitBook(sessions, organization_default=DEFAULT)


async def put(sessions, level: Level, scope_id, limits: Limits, setter=LimitSetter.CUSTOMER) -> None:
    async with session_scope(sessions) as session:
        asked = SetLimit(level=level, scope_id=scope_id, setter=setter, limits=limits)
        await set_limit(session, asked, actor_id=None)


class TestLimitBook:
    async def test_the_default_holds_for_every_organization_and_for_nothing_else(self, book, market):
        [found] = book.limits_of(market.caller)
        assert found == (Level.ORGANIZATION, market.caller.organization_id, DEFAULT)

    async def test_an_organization_limits_itself_below_the_default_and_never_above(
        self, book, sessions, market
    ):
        organization_id = market.caller.organization_id
        await put(
            sessions,
            Level.ORGANIZATION,
            organization_id,
            Limits(requests_per_minute=5, concurrent_requests=99),
        )
        await book.refresh()
        assert book.organization(organization_id) == Limits(requests_per_minute=5, concurrent_requests=10)

    async def test_an_allowance_stands_in_the_place_of_the_default(self, book, sessions, market):
        organization_id = market.caller.organization_id
        given = Limits(requests_per_minute=50_000)
        await put(sessions, Level.ORGANIZATION, organization_id, given, LimitSetter.MARKETPLACE)
        await book.refresh()
        assert book.organization(organization_id) == given

    async def test_each_level_has_its_own(self, book, sessions, market):
        caller = market.caller
        await put(sessions, Level.PROJECT, caller.project_id, Limits(tokens_per_minute=7))
        await put(sessions, Level.API_KEY, caller.api_key_id, Limits(concurrent_requests=2))
        await book.refresh()
        assert book.limits_of(caller)[1:] == [
            (Level.PROJECT, caller.project_id, Limits(tokens_per_minute=7)),
            (Level.API_KEY, caller.api_key_id, Limits(concurrent_requests=2)),
        ]

    async def test_a_change_and_a_removal_are_heard_of_and_a_repeat_is_no_change(
        self, book, sessions, market
    ):
        key_id = market.caller.api_key_id
        await put(sessions, Level.API_KEY, key_id, Limits(requests_per_minute=3))
        await book.refresh()
        version = book.version
        await book.refresh()
        assert book.version == version
        async with session_scope(sessions) as session:
            await remove_limit(
                session, level=Level.API_KEY, scope_id=key_id, setter=LimitSetter.CUSTOMER, actor_id=None
            )
        await book.refresh()
        assert book.version == version + 1
        assert [level for level, _, _ in book.limits_of(market.caller)] == [Level.ORGANIZATION]

    async def test_it_reads_by_itself(self, sessions, market):
        book = LimitBook(sessions, refresh_s=0.01)
        await book.start()
        await put(sessions, Level.API_KEY, market.caller.api_key_id, Limits(requests_per_minute=3))
        async with asyncio.timeout(30):
            while not book.limits_of(market.caller):
                await asyncio.sleep(0.01)
        await book.stop()


class TestService:
    async def test_what_is_no_more_set_is_not_shown(self, sessions, market):
        key_id = market.caller.api_key_id
        await put(sessions, Level.API_KEY, key_id, Limits(requests_per_minute=3))
        async with session_scope(sessions) as session:
            [shown] = await set_limits_of(session, [key_id])
            assert shown.limits == Limits(requests_per_minute=3)
            await remove_limit(
                session, level=Level.API_KEY, scope_id=key_id, setter=LimitSetter.CUSTOMER, actor_id=None
            )
            assert await set_limits_of(session, [key_id]) == []
            with pytest.raises(NotFound):
                await remove_limit(
                    session, level=Level.API_KEY, scope_id=key_id, setter=LimitSetter.CUSTOMER, actor_id=None
                )

    @pytest.mark.parametrize("level", list(Level))
    async def test_what_does_not_exist_is_not_limited(self, sessions, level):
        with pytest.raises(NotFound):
            await put(sessions, level, new_id(), Limits(requests_per_minute=3))

    async def test_nothing_is_no_limit(self, sessions, market):
        with pytest.raises(InvalidRequest):
            await put(sessions, Level.PROJECT, market.caller.project_id, Limits())

    async def test_the_database_holds_the_bounds_too(self, sessions, market):
        for column, value in (
            ("requests_per_minute", 0),
            ("tokens_per_minute", -1),
            ("concurrent_requests", 1_000_001),
        ):
            with pytest.raises(Exception, match="ck_rate_limit_in_range"):
                async with session_scope(sessions) as session:
                    await session.execute(
                        text(
                            f"insert into rate_limit (scope, scope_id, setter, organization_id, {column})"
                            " values ('organization', :id, 'customer', :id, :value)"
                        ),
                        {"id": market.caller.organization_id, "value": value},
                    )
