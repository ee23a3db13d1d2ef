"""The reading session that one operation's resolvers share."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from raymart_graphql import reading
from raymart_graphql.reading import Reading
from support.api_server import Api, Seller, Tenant
from support.link_market import until


@pytest_asyncio.fixture(loop_scope="session")
async def shared(api: Api) -> AsyncIterator[Reading]:
    shared = Reading(api.services.sessions)
    yield shared
    await shared.aclose()


async def backend(shared: Reading) -> int:
    async with shared.session() as session:
        return int((await session.execute(text("select pg_backend_pid() from pg_sleep(0.01)"))).scalar_one())


class TestReading:
    async def test_side_by_side_uses_take_turns_on_one_connection(self, shared: Reading) -> None:
        assert len(set(await asyncio.gather(*(backend(shared) for _ in range(5))))) == 1

    async def test_closing_gives_the_connection_back_and_the_next_use_opens_another(
        self, api: Api, shared: Reading
    ) -> None:
        await backend(shared)
        await shared.aclose()
        await shared.aclose()
        # What the API does by itself borrows connections too, each for a moment.
        await until(lambda: not api.services.engine.pool.checkedout())  # type: ignore[attr-defined]
        assert await backend(shared)

    async def test_failed_statement_does_not_spoil_the_next(self, shared: Reading) -> None:
        with pytest.raises(DBAPIError):
            async with shared.session() as session:
                await session.execute(text("select 1/0"))
        assert await backend(shared)

    async def test_statement_that_takes_too_long_is_given_up(
        self, shared: Reading, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "READ_TIMEOUT_S", 0.2)
        with pytest.raises(TimeoutError):
            async with shared.session() as session:
                await session.execute(text("select pg_sleep(20)"))
        monkeypatch.undo()
        assert await backend(shared)

    async def test_nothing_is_lent_once_the_operation_is_over(self, api: Api, shared: Reading) -> None:
        await backend(shared)
        await shared.end()
        with pytest.raises(asyncio.CancelledError):
            await backend(shared)
        # What the API does by itself borrows connections too, each for a moment.
        await until(lambda: not api.services.engine.pool.checkedout())  # type: ignore[attr-defined]

    async def test_loaders_that_outlive_a_failed_operation_hold_no_connection(
        self, api: Api, customer: Tenant, seller: Seller
    ) -> None:
        """GraphQL answers when the wrong id is refused, while the other ids are still being loaded."""
        await api.use(customer, seller, 1)
        ids = [customer.id, seller.id, customer.project, "no id", ""]
        pool = api.services.engine.pool
        for _ in range(20):
            answer = await api(
                "query ($ids: [ID!]!) { nodes(ids: $ids) { id ... on Project { organization { name } } } }",
                customer.owner,
                ids=ids,
            )
            assert answer.errors
        async with asyncio.timeout(30):
            while pool.checkedout():  # type: ignore[attr-defined]
                await asyncio.sleep(0.05)
