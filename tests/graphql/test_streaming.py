"""Server-sent events, by graphql-sse's distinct connections mode."""

import asyncio
import socket
from decimal import Decimal

import httpx
import pytest
from strawberry.types.execution import ExecutionResult

from raymart_graphql import streaming
from raymart_graphql.negotiation import Media, negotiated
from raymart_graphql.streaming import EventStream, Frames
from raymart_marketplace.metering.models import RequestState
from support.api_server import Api, Seller, Tenant, api_server, control_settings
from support.completions import STREAM, chat, price, request_row, rows_of, until_settled
from support.event_stream import followed
from support.link_market import until
from support.scripted_replica import Exchange, ScriptedReplica

URQL = "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"


class TestNegotiation:
    @pytest.mark.parametrize(
        ("accept", "media", "incremental"),
        [
            ("text/event-stream", Media.EVENT_STREAM, True),
            ("text/event-stream, multipart/mixed", Media.EVENT_STREAM, True),
            ("text/event-stream, */*", Media.EVENT_STREAM, True),
            ("TEXT/EVENT-STREAM;charset=utf-8", Media.EVENT_STREAM, True),
            ("text/event-stream;q=0", Media.JSON, False),
            ("text/event-stream, application/json;q=0.1", Media.JSON, False),
            (URQL, Media.GRAPHQL, True),
            ("multipart/mixed;deferSpec=20220824,application/json", Media.JSON, True),
            ("text/html", Media.JSON, False),
        ],
    )
    def test_events_only_for_a_client_that_reads_no_json(
        self, accept: str, media: Media, incremental: bool
    ) -> None:
        accepted = negotiated(accept)
        assert (accepted.media, accepted.incremental) == (media, incremental)


class TestEvents:
    async def test_deltas_arrive_as_they_are_generated(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        more = asyncio.Event()

        async def haltingly(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step("one ")
            await more.wait()
            exchange.step("two")
            exchange.finish(revision=seller.digest)

        replica.script = haltingly
        await api.credit(customer)
        # What urql sends for a subscription.
        accept = "text/event-stream, multipart/mixed"
        async with followed(api, STREAM, customer.owner, accept=accept, input=chat(seller)) as events:
            assert events.response.status_code == 200
            assert events.response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert events.response.headers["x-request-id"].startswith("req_")
            _, first = await events.next()
            assert first is not None
            assert first["data"]["chatCompletion"]["delta"] == "one "
            more.set()
            *_, last = await events.results()
        assert Decimal(last["data"]["chatCompletion"]["cost"]["amount"]) == price(3, 2)

    async def test_client_that_leaves_stops_the_engine_and_pays_for_what_it_got(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        async def endless(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step()
            exchange.step()
            await exchange.gone.wait()

        replica.script = endless
        await api.credit(customer)
        async with followed(api, STREAM, customer.owner, input=chat(seller, maxTokens=100)) as events:
            for _ in range(2):
                _, result = await events.next()
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        assert (await until_settled(api, customer)).posted.decimal() == 1 - price(3, 2)
        assert result is not None
        row = await request_row(api, result["data"]["chatCompletion"]["requestId"])
        assert row.state is RequestState.CANCELLED

    async def test_client_that_does_not_read_frees_the_engine(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streaming, "SEND_TIMEOUT_S", 0.3)
        async with api_server(control_settings(database_url), send_buffer_bytes=4_096) as api:
            customer, seller = await api.tenant(), await api.seller()

            async def flood(exchange: Exchange) -> None:
                exchange.prompt()
                for _ in range(900):
                    exchange.step("x" * 200)
                await exchange.gone.wait()

            await api.credit(customer)
            options = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)]
            transport = httpx.AsyncHTTPTransport(socket_options=options)
            async with (
                ScriptedReplica(flood) as replica,
                httpx.AsyncClient(base_url=api.client.base_url, transport=transport) as api.client,
            ):
                await api.serve(seller, replica)
                async with followed(api, STREAM, customer.owner, input=chat(seller, maxTokens=900)):
                    async with asyncio.timeout(20):
                        await until(lambda: replica.exchanges)
                        await replica.exchanges[0].gone.wait()
                    await until_settled(api, customer)
                    [row] = await rows_of(api, customer)
                    assert row.state is RequestState.CANCELLED

    async def test_query_is_one_result(self, api: Api, customer: Tenant) -> None:
        async with followed(api, "{ viewer { user { email } } }", customer.owner) as events:
            assert await events.results() == [{"data": {"viewer": {"user": {"email": customer.owner.email}}}}]

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("{", "GRAPHQL_PARSE_FAILED"),
            ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
            ("query A { __typename } query B { __typename }", "BAD_REQUEST"),
            ("{ viewer { user { email } } }", "UNAUTHENTICATED"),
        ],
    )
    async def test_refusal_is_a_result_with_a_code(self, api: Api, query: str, code: str) -> None:
        """A browser cannot read the body of a stream that was refused."""
        async with followed(api, query) as events:
            [result] = await events.results()
        [error] = result["errors"]
        assert error["extensions"]["code"] == code
        assert error["extensions"]["requestId"] == events.response.headers["x-request-id"]

    async def test_body_that_is_no_request_is_refused_before_the_stream(self, api: Api) -> None:
        headers = {"accept": "text/event-stream", "content-type": "application/json"}
        response = await api.client.post("/graphql", content=b"5", headers=headers)
        assert response.status_code == 400
        assert response.headers["content-type"].startswith("application/json")

    async def test_subscription_needs_a_stream(self, api: Api, customer: Tenant, seller: Seller) -> None:
        refused = await api(STREAM, customer.owner, input=chat(seller))
        assert refused.response.status_code == 400
        assert refused.code == "BAD_REQUEST"
        assert "text/event-stream" in refused.errors[0]["message"]


class TestHeartbeat:
    async def test_silent_stream_says_that_it_is_there(
        self,
        api: Api,
        customer: Tenant,
        seller: Seller,
        replica: ScriptedReplica,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.02)
        more = asyncio.Event()

        async def silent(exchange: Exchange) -> None:
            await more.wait()
            exchange.prompt()
            exchange.step()
            exchange.finish(revision=seller.digest)

        replica.script = silent
        await api.credit(customer)
        async with followed(api, STREAM, customer.owner, input=chat(seller)) as events:
            lines = events.response.aiter_lines()
            comments = [line async for line in _first(lines, 8) if line]
            assert comments == [":"] * 4
            more.set()


async def _first(lines, count):
    async with asyncio.timeout(30):
        for _ in range(count):
            yield await anext(lines)


class TestEventStream:
    async def test_failure_of_ours_ends_it_without_complete(self) -> None:
        """A stream that is cut off must not look whole."""

        async def frames() -> Frames:
            yield ExecutionResult(data={"a": 1}, errors=None)
            raise RuntimeError("a fault")

        sent: list[bytes] = []

        async def send(message) -> None:
            sent.append(message.get("body", b""))

        async def receive():
            await asyncio.Event().wait()

        async def headers() -> dict[str, str]:
            return {}

        stream = EventStream(frames(), begun=asyncio.Event(), late_headers=headers)
        await stream({"type": "http"}, receive, send)
        assert b"".join(sent) == b':\n\nevent: next\ndata: {"data":{"a":1}}\n\n'


class TestOrigin:
    async def test_foreign_page_is_refused(self, api: Api) -> None:
        for accept in ("application/json", "text/event-stream"):
            headers = {"origin": "https://evil.example", "accept": accept}
            response = await api.client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
            assert response.status_code == 403
            assert response.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"
            assert "access-control-allow-origin" not in response.headers

    @pytest.mark.parametrize("origin", ["null", "https://[", "http://127.0.0.1", "http://127.0.0.1:1"])
    async def test_what_only_looks_like_this_host_is_refused(self, api: Api, origin: str) -> None:
        response = await api.client.post(
            "/graphql", json={"query": "{ __typename }"}, headers={"origin": origin}
        )
        assert response.status_code == 403

    async def test_own_page_is_let_in(self, api: Api) -> None:
        headers = {"origin": f"http://127.0.0.1:{api.port}"}
        response = await api.client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
        assert response.status_code == 200

    async def test_allowed_page_is_let_in_and_may_read_the_answer(self, database_url: str) -> None:
        origin = "https://app.example.com"
        async with api_server(control_settings(database_url, allowed_origins=origin)) as api:
            asking = {
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            }
            assert (await api.client.options("/graphql", headers=asking)).status_code == 200
            headers = {"origin": origin}
            response = await api.client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
            assert response.status_code == 200
            assert response.headers["access-control-allow-origin"] == origin
            assert "x-request-id" in response.headers["access-control-expose-headers"]
            foreign = {"origin": "https://evil.example"}
            assert (await api.client.get("/graphql", headers=foreign)).status_code == 403
