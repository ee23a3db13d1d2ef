"""Promise 21: by default nothing of a prompt or a completion is kept, whatever becomes of the request.

One canary is in every prompt, another in every completion and in whatever a provider says; then every place that keeps
anything is searched.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import structlog
import websockets
from redis.asyncio import Redis

from raymart_core.ids import new_id
from raymart_core.units import Fault
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.gateway import chat_route
from support.api_server import Api, Seller, Tenant, api_server, control_settings
from support.canary import Search, all_logs
from support.completions import STREAM, until_settled
from support.event_stream import followed
from support.own_database import database_url, owner_url
from support.scripted_replica import Exchange, ScriptedReplica

__all__ = ["database_url", "owner_url"]

MUTATION = """
mutation ($input: CreateChatCompletionInput!) {
  createChatCompletion(input: $input) { completion { requestId text } userErrors { code message } }
}
"""
TOKENS = tuple(range(20))


class Traffic:
    """Customers, and providers that serve well or badly; the canaries are in all that they say."""

    def __init__(self, api: Api, *, funded: Tenant, poor: Tenant, key: str, poor_key: str) -> None:
        self.api = api
        self.prompt = f"canary-prompt-{new_id().hex}"
        self.completion = f"canary-completion-{new_id().hex}"
        self.funded, self.poor = funded, poor
        self._key, self._poor_key = key, poor_key
        self.seller: Seller
        self.replica: ScriptedReplica

    @classmethod
    async def of(cls, api: Api) -> "Traffic":
        funded, poor = await api.tenant(), await api.tenant()
        await api.credit(funded)
        (_, key), (_, poor_key) = await api.api_key(funded), await api.api_key(poor)
        return cls(api, funded=funded, poor=poor, key=key, poor_key=poor_key)

    @asynccontextmanager
    async def served(self, script: Callable[[Exchange], Awaitable[None]]) -> AsyncIterator[None]:
        """A provider of its own, so that one that fails is not left alone in the next case."""
        self.seller = await self.api.seller()
        async with ScriptedReplica(script) as self.replica:
            await self.api.serve(self.seller, self.replica)
            yield
            self.api.retire(self.seller)

    def body(self, **changes: Any) -> dict[str, Any]:
        message = {"role": "user", "content": f"say {self.prompt}", "name": self.prompt[:40]}
        return {"model": self.seller.model_slug, "messages": [message], "max_tokens": 200} | changes

    def input(self, **changes: Any) -> dict[str, Any]:
        message = {"role": "USER", "content": f"say {self.prompt}"}
        return {"model": self.seller.model_slug, "messages": [message], "maxTokens": 200} | changes

    async def rest(self, content: bytes | dict[str, Any], key: str | None = None) -> httpx.Response:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"authorization": f"Bearer {key or self._key}"}
        return await self.api.client.post("/v1/chat/completions", content=data, headers=headers)

    # What customers do.

    async def both(self, status: int) -> None:
        """Ask over REST, streamed and not, and over GraphQL in its three ways; `status` is that of the unary reply."""
        assert (await self.rest(self.body())).status_code == status
        await self.rest(self.body(stream=True))
        await self.graphql()

    async def graphql(self) -> None:
        assert "errors" not in (await self.api(MUTATION, self.funded.owner, input=self.input())).body
        async with followed(self.api, STREAM, self.funded.owner, input=self.input()) as events:
            await events.results()
        await self.over_socket(STREAM, {"input": self.input()})

    async def over_socket(self, query: str, variables: dict[str, Any]) -> None:
        async with websockets.connect(self.api.ws_url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]  # a NewType of str
            token = {"Authorization": f"Bearer {self.funded.owner.token}"}
            await socket.send(json.dumps({"type": "connection_init", "payload": token}))
            payload = {"query": query, "variables": variables}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            async with asyncio.timeout(20):
                while json.loads(await socket.recv())["type"] not in {"complete", "error"}:
                    pass

    async def malformed(self) -> None:
        """Bodies that are refused with 400, 401, 402, 404, 413, each with the prompt in the very thing that is wrong."""
        whole = json.dumps(self.body())
        message = self.body()["messages"][0]
        bad: list[bytes | dict[str, Any]] = [
            whole[:-9].encode(),
            whole.encode() + b"\xff",
            self.body(messages=[message | {"role": self.prompt}]),
            self.body(messages=[message | {"content": [{"type": self.prompt, "text": self.prompt}]}]),
            self.body(messages=[message | {"content": 5, "name": self.prompt}]),
            self.body(messages=self.prompt),
            self.body(stop=[self.prompt * 50]),
            self.body(temperature=self.prompt),
            self.body(provider={"order": self.prompt}),
            self.body(messages=[message | {"content": self.prompt + "\ud800"}]),
        ]
        for content in bad:
            assert (await self.rest(content)).status_code == 400, content
        assert (await self.rest(self.body(), key="rm_live_wrong")).status_code == 401
        assert (await self.rest(self.body(), key=self._poor_key)).status_code == 402
        assert (await self.rest(self.body(model="test/none"))).status_code == 404
        assert (await self.rest(self.body(user=self.prompt * 60_000))).status_code == 413

    async def malformed_graphql(self) -> None:
        """Operations that are refused, with the prompt in the document, in the variables and in the query string."""
        inline = MUTATION.replace("($input: CreateChatCompletionInput!) ", "").replace("$input", "{}")
        inputs = (
            f'{{model: "m", messages: [{{role: USER, content: "{self.prompt}"}}]}}',
            f'{{model: "m", messages: "{self.prompt}"}}',
            f'{{model: "m", messages: [{{role: USER, content: "{self.prompt}}}]}}',
        )
        for text in inputs:
            document = inline.replace("{}", text)
            await self.api(document, self.funded.owner)
            await self.over_socket(document, {})
            hashed = {"version": 1, "sha256Hash": hashlib.sha256(document.encode()).hexdigest()}
            persisted = {"query": document, "extensions": {"persistedQuery": hashed}}
            token = {"authorization": f"Bearer {self.funded.owner.token}"}
            await self.api.client.post("/graphql", json=persisted, headers=token)
            await self.api.client.get("/graphql", params={"query": document})
        await self.api(MUTATION, self.funded.owner, input=self.input(maxTokens=self.prompt))
        await self.api(MUTATION, self.funded.owner, input=self.input(messages=[{"role": self.prompt}]))
        await self.api(MUTATION, self.poor.owner, input=self.input())
        await self.api(MUTATION, self.funded.owner, input=self.input(model="test/none"))
        await self.api.client.post("/graphql", content=f'{{"query": "{self.prompt}'.encode())

    async def leave(self) -> None:
        """Go in mid-stream, over REST and over server-sent events."""
        headers = {"authorization": f"Bearer {self._key}"}
        streamed = self.body(stream=True)
        async with self.api.client.stream(
            "POST", "/v1/chat/completions", json=streamed, headers=headers
        ) as reply:
            async for line in reply.aiter_lines():
                if self.completion in line:
                    break
        async with followed(self.api, STREAM, self.funded.owner, input=self.input()) as events:
            await events.next()
        async with asyncio.timeout(30):
            for exchange in self.replica.exchanges:
                await exchange.gone.wait()

    # What providers do.

    async def answers(self, exchange: Exchange) -> None:
        exchange.prompt()
        for _ in range(2):
            exchange.step(self.completion, ids=TOKENS)
        exchange.finish(revision=self.seller.digest)

    async def hangs(self, exchange: Exchange) -> None:
        exchange.prompt()
        exchange.step(self.completion, ids=TOKENS)
        await exchange.gone.wait()

    async def is_mute(self, exchange: Exchange) -> None:
        exchange.prompt()
        await exchange.gone.wait()

    async def refuses(self, exchange: Exchange) -> None:
        exchange.refuse(500, f"cannot serve {self.prompt}", Fault.PROVIDER)

    async def blames_the_customer(self, exchange: Exchange) -> None:
        exchange.refuse(400, f"cannot read {self.prompt}", Fault.CUSTOMER, self.prompt[:60])

    async def fails_at_once(self, exchange: Exchange) -> None:
        exchange.prompt()
        exchange.fail(f"cannot serve {self.prompt}")

    async def fails_later(self, exchange: Exchange) -> None:
        exchange.prompt()
        exchange.step(self.completion, ids=TOKENS)
        exchange.fail(f"{self.prompt} and {self.completion} were too much")

    async def breaks_off(self, exchange: Exchange) -> None:
        exchange.prompt()
        exchange.step(self.completion, ids=TOKENS)
        exchange.cut()

    async def talks_nonsense(self, exchange: Exchange) -> None:
        exchange.prompt()
        exchange.step(self.completion, ids=TOKENS)
        exchange.line(json.dumps({"e": self.prompt[:60], self.completion[:60]: self.prompt}).encode())

    async def serves_another(self, exchange: Exchange) -> None:
        exchange.prompt()
        exchange.step(self.completion, ids=TOKENS)
        exchange.finish(revision=self.prompt[:60])

    async def breaks_http(self, exchange: Exchange) -> None:
        exchange.raw(f"HTTP/1.1 200 {self.prompt}\r\n{self.completion}\r\n\r\n".encode())


class Places:
    """Everything that keeps anything, and what of the canaries is in it."""

    def __init__(self, traffic: Traffic, *, owner_url: str, redis_url: str, folders: list[Path]) -> None:
        self.search = Search(traffic.prompt, traffic.completion)
        self._api = traffic.api
        self._owner_url, self._redis_url, self._folders = owner_url, redis_url, folders

    async def found(self, logs: StringIO, *streams: str) -> list[str]:
        """Where something was found; nothing is allowed."""
        metrics = (await self._api.client.get("/metrics")).text
        texts = {"logs": logs.getvalue(), "metrics": metrics, "the process's streams": "".join(streams)}
        return [
            *(name for name, text in texts.items() if self.search.holds(text)),
            *await asyncio.to_thread(self.search.tables, self._owner_url),
            *await self.search.redis(self._redis_url),
            *self.search.files(*self._folders),
        ]


async def run_all(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of request, well and badly served."""
    async with traffic.served(traffic.answers):
        await traffic.both(200)
        await traffic.malformed()
        await traffic.malformed_graphql()
        with monkeypatch.context() as bug:
            bug.setattr(chat_route, "parse_chat", _bug)
            assert (await traffic.rest(traffic.body())).status_code == 500
    badly = {
        traffic.refuses: 502, traffic.blames_the_customer: 400, traffic.fails_at_once: 502, traffic.fails_later: 502,
        traffic.breaks_off: 502, traffic.talks_nonsense: 502, traffic.serves_another: 502, traffic.breaks_http: 502,
        traffic.is_mute: 502,
    }  # fmt: skip
    for script, status in badly.items():
        async with traffic.served(script):
            assert (await traffic.rest(traffic.body())).status_code == status, script
        async with traffic.served(script):
            await traffic.rest(traffic.body(stream=True))
        async with traffic.served(script):
            await traffic.graphql()
    async with traffic.served(traffic.hangs):
        await traffic.leave()
    await until_settled(traffic.api, traffic.funded)


def _bug(body: bytes) -> None:
    raise RuntimeError("a bug, with the body in a local variable")


class TestNothingIsKept:
    async def test_canaries_of_all_kinds_of_requests_are_nowhere(
        self,
        *,
        postgres: EmbeddedPostgres,
        owner_url: str,
        database_url: str,
        redis_server: EmbeddedRedis,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        settings = control_settings(
            database_url,
            redis_url=redis_server.url,
            data_dir=tmp_path,
            first_token_timeout_s=0.3,
            stall_timeout_s=0.3,
        )
        with all_logs() as logs:
            async with api_server(settings) as api:
                traffic = await Traffic.of(api)
                folders = [tmp_path, postgres.log_path, redis_server.log_path]
                places = Places(traffic, owner_url=owner_url, redis_url=redis_server.url, folders=folders)
                await run_all(traffic, monkeypatch)
                assert "request.bug" in logs.getvalue()
                assert "endpoint.opened" in logs.getvalue()
                assert await places.found(logs, *capfd.readouterr()) == []


class TestSearch:
    async def test_each_place_is_searched(
        self, owner_url: str, redis_server: EmbeddedRedis, tmp_path: Path
    ) -> None:
        """What this file relies on: a canary that is somewhere is found there."""
        canary = f"canary-{new_id().hex}"
        search = Search(canary)
        with psycopg.connect(owner_url, autocommit=True) as connection:
            connection.execute("create table leak (note text, raw bytea, more jsonb)")
            for column, value in {
                "note": canary,
                "raw": canary.encode(),
                "more": json.dumps({canary: 1}),
            }.items():
                connection.execute("truncate leak")
                connection.execute(f"insert into leak ({column}) values (%s)", (value,))
                assert search.tables(owner_url) == ["table leak"], column
            connection.execute("drop table leak")
        async with Redis.from_url(redis_server.url) as redis:
            for number, write in enumerate(
                (
                    lambda key: redis.set(key, canary),
                    lambda key: redis.hset(key, "a", canary),
                    lambda key: redis.xadd(key, {"a": canary}),
                    lambda key: redis.rpush(key, canary),
                )
            ):
                key = f"leak-{number}"
                await write(key)
                assert len(await search.redis(redis_server.url)) == 1
                await redis.delete(key)
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / "journal").write_bytes(b"\x00" + canary.encode() + b"\xff")
        assert search.files(tmp_path) == ["file journal"]
        with all_logs() as logs:
            structlog_and_standard(canary)
        assert logs.getvalue().count(canary) == 2


def structlog_and_standard(canary: str) -> None:
    structlog.get_logger("test").debug("request.seen", body=canary)
    logging.getLogger("test").debug(canary)
