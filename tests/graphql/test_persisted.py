"""Automatic persisted queries, by Apollo's protocol."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from strawberry.http import GraphQLRequestData

from raymart_graphql.persisted import CHARACTERS_MAX, PersistedQueries, PersistedQueryNotFound
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.shared_state import Redis, make_redis
from support.api_server import Api


def named(query: str) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(query.encode()).hexdigest()}}


def asked(query: str, *, whole: bool) -> GraphQLRequestData:
    return GraphQLRequestData(
        query=query if whole else None, variables=None, operation_name=None, extensions=named(query)
    )


async def post(api: Api, **body: Any) -> httpx.Response:
    return await api.client.post("/graphql", json=body)


def code(response: httpx.Response) -> str:
    [error] = response.json()["errors"]
    return error["extensions"]["code"]


@pytest_asyncio.fixture(loop_scope="session")
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    with EmbeddedRedis(tmp_path) as server:
        client = make_redis(server.url)
        yield client
        await client.aclose()


class TestProtocol:
    async def test_hash_alone_works_once_the_document_was_sent(self, api: Api) -> None:
        query = "query Once { __typename }"
        missing = await post(api, extensions=named(query))
        assert missing.status_code == 200
        assert code(missing) == "PERSISTED_QUERY_NOT_FOUND"
        assert missing.json()["errors"][0]["message"] == "PersistedQueryNotFound"
        sent = await post(api, query=query, extensions=named(query))
        assert sent.json() == {"data": {"__typename": "Query"}}
        assert (await post(api, extensions=named(query))).json() == sent.json()
        parameters = {"extensions": json.dumps(named(query))}
        assert (await api.client.get("/graphql", params=parameters)).json() == sent.json()

    async def test_hash_of_another_document_is_refused(self, api: Api) -> None:
        response = await post(api, query="{ __typename }", extensions=named("{ viewer { user { id } } }"))
        assert response.status_code == 400
        assert code(response) == "BAD_REQUEST"

    async def test_document_that_is_wrong_is_not_kept(self, api: Api) -> None:
        query = "{ nothingOfThatName }"
        assert code(await post(api, query=query, extensions=named(query))) == "GRAPHQL_VALIDATION_FAILED"
        assert code(await post(api, extensions=named(query))) == "PERSISTED_QUERY_NOT_FOUND"

    async def test_mutation_is_not_run_by_get(self, api: Api) -> None:
        query = "mutation ($x: String!) { login(input: {email: $x, password: $x}) { token } }"
        sent = await post(api, query=query, variables={"x": "a@example.com"}, extensions=named(query))
        assert sent.status_code == 200
        response = await api.client.get("/graphql", params={"extensions": json.dumps(named(query))})
        assert response.status_code == 400

    @pytest.mark.parametrize(
        "extension",
        [
            5, {}, {"version": 2, "sha256Hash": "0" * 64}, {"version": 1}, {"version": 1, "sha256Hash": 5},
            {"version": 1, "sha256Hash": "0" * 63}, {"version": 1, "sha256Hash": "G" * 64},
        ],
    )  # fmt: skip
    async def test_what_is_no_hash_is_refused(self, api: Api, extension: object) -> None:
        response = await post(api, extensions={"persistedQuery": extension})
        assert (response.status_code, code(response)) == (400, "BAD_REQUEST")


class TestPersistedQueries:
    async def test_what_holds_strings_is_not_kept_for_it_may_hold_a_prompt(self, redis: Redis) -> None:
        document = '{ a(b: "words") }'
        await PersistedQueries(redis).remember(asked(document, whole=True))
        with pytest.raises(PersistedQueryNotFound):
            await PersistedQueries(redis).complete(asked(document, whole=False))

    async def test_processes_share_them(self, redis: Redis) -> None:
        await PersistedQueries(redis).remember(asked("{ a }", whole=True))
        assert (await PersistedQueries(redis).complete(asked("{ a }", whole=False))).query == "{ a }"

    async def test_a_full_store_drops_what_came_first(self, redis: Redis) -> None:
        writer = PersistedQueries(redis, documents_max=3)
        for number in range(5):
            await writer.remember(asked(f"{{ a{number} }}", whole=True))
        reader = PersistedQueries(redis)
        for number in (0, 1):
            with pytest.raises(PersistedQueryNotFound):
                await reader.complete(asked(f"{{ a{number} }}", whole=False))
        for number in (2, 3, 4):
            assert (await reader.complete(asked(f"{{ a{number} }}", whole=False))).query

    async def test_long_document_is_not_kept(self, redis: Redis) -> None:
        queries, long = PersistedQueries(redis), "{ a }".ljust(CHARACTERS_MAX + 1)
        await queries.remember(asked(long, whole=True))
        with pytest.raises(PersistedQueryNotFound):
            await queries.complete(asked(long, whole=False))

    async def test_what_was_put_under_anothers_hash_is_not_run(self, redis: Redis) -> None:
        wanted = asked("{ a }", whole=False)
        digest = named("{ a }")["persistedQuery"]["sha256Hash"]
        await redis.hset("raymart:graphql:persisted", digest, "mutation { pay }")
        with pytest.raises(PersistedQueryNotFound):
            await PersistedQueries(redis).complete(wanted)

    async def test_without_redis_a_process_remembers_for_itself(self, tmp_path: Path) -> None:
        with EmbeddedRedis(tmp_path) as server:
            redis = make_redis(server.url)
        queries = PersistedQueries(redis)
        await queries.remember(asked("{ a }", whole=True))
        assert (await queries.complete(asked("{ a }", whole=False))).query == "{ a }"
        with pytest.raises(PersistedQueryNotFound):
            await PersistedQueries(redis).complete(asked("{ a }", whole=False))
        await redis.aclose()
