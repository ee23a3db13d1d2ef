"""Chat completions over GraphQL: the same pipeline, money and refusals as REST."""

import asyncio
import socket
from decimal import Decimal
from typing import Any

import pytest
import websockets

from raymart_core.units import Fault, FinishReason
from raymart_graphql import transport_ws
from raymart_marketplace.metering.models import RequestState, Surface
from support.api_server import (
    Api,
    Seller,
    Tenant,
    api_server,
    control_settings,
)
from support.completions import STREAM, chat, price, request_row, rows_of, until_settled
from support.graphql_socket import connected, opened
from support.link_market import until
from support.scripted_replica import Exchange, ScriptedReplica

CREATE = """
mutation ($input: CreateChatCompletionInput!) {
  createChatCompletion(input: $input) {
    completion {
      requestId model text finishReason attempts createdAt
      usage { tokensPrompt tokensCompletion tokensTotal }
      cost { amount currency }
      provider { id slug }
      logprobs { token logprob top { token } }
    }
    userErrors { code field message reasons }
  }
}
"""


class TestMutation:
    async def test_answer_usage_and_cost(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        data = (await api(CREATE, customer.owner, input=chat(seller))).data["createChatCompletion"]
        assert data["userErrors"] == []
        completion = data["completion"]
        assert completion["text"] == "tok " * 4
        assert completion["finishReason"] == "LENGTH"
        assert completion["usage"] == {"tokensPrompt": 3, "tokensCompletion": 4, "tokensTotal": 7}
        assert completion["cost"]["currency"] == "USD"
        assert Decimal(completion["cost"]["amount"]) == price(3, 4)
        assert completion["provider"]["slug"] == seller.provider_slug
        assert completion["logprobs"] is None

        row = await request_row(api, completion["requestId"])
        assert (row.surface, row.streamed, row.user_id) == (Surface.GRAPHQL, False, customer.owner.user_id)
        assert row.project_id == customer.project_id
        settled = await until_settled(api, customer)
        assert settled.posted.decimal() == 1 - price(3, 4)

    async def test_request_can_be_read_back_with_its_bill(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        made = (await api(CREATE, customer.owner, input=chat(seller))).data["createChatCompletion"][
            "completion"
        ]
        query = """
        query ($id: ID!) {
          node(id: $id) { ... on Request {
            surface state modelAsked
            attempts { outcome fault tokensDelivered provider { slug } }
            usageRecord { amount { amount } providerAmount { amount } feeAmount { amount } provider { slug } exact }
          } }
        }
        """
        node = (await api(query, customer.owner, id=made["requestId"])).data["node"]
        assert (node["surface"], node["state"], node["modelAsked"]) == (
            "GRAPHQL",
            "COMPLETED",
            seller.model_slug,
        )
        assert node["attempts"] == [
            {
                "outcome": "DELIVERED",
                "fault": "NONE",
                "tokensDelivered": 4,
                "provider": {"slug": seller.provider_slug},
            }
        ]
        bill = node["usageRecord"]
        amounts = [Decimal(bill[name]["amount"]) for name in ("amount", "providerAmount", "feeAmount")]
        assert amounts[0] == price(3, 4) == amounts[1] + amounts[2]

    async def test_sampling_reaches_the_replica(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        wanted = chat(
            seller, temperature=0.5, topP=0.25, seed="12345678901", stop=["end"], messages=[
                {"role": "SYSTEM", "content": "be brief"}, {"role": "USER", "content": "hello", "name": "ann"},
            ],
        )  # fmt: skip
        assert (await api(CREATE, customer.owner, input=wanted)).data["createChatCompletion"]["completion"]
        sent = replica.exchanges[0].request
        assert (sent.sampling.temperature, sent.sampling.top_p, sent.sampling.stop) == (0.5, 0.25, ("end",))
        assert sent.sampling.seed == 12345678901 & 0xFFFFFFFF
        assert sent.messages is not None
        assert [(message.role, message.content, message.name) for message in sent.messages] == [
            ("system", "be brief", None),
            ("user", "hello", "ann"),
        ]

    async def test_api_key_pays_with_its_project(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        key_id, secret = await api.api_key(customer)
        completion = (await api(CREATE, secret, input=chat(seller))).data["createChatCompletion"][
            "completion"
        ]
        row = await request_row(api, completion["requestId"])
        assert (row.api_key_id, row.user_id, row.project_id) == (key_id, None, customer.project_id)

    async def test_an_answer_is_given_again_to_who_asks_for_that(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        wanted = chat(seller, temperature=0, answerCacheSeconds=300)
        query = "mutation ($input: CreateChatCompletionInput!) { createChatCompletion(input: $input) { completion { text answerCache } } }"
        before, said = await self._counted(api), []
        for given in (wanted, wanted, wanted | {"temperature": 1.0}, wanted | {"answerCacheSeconds": None}):
            found = (await api(query, customer.owner, input=given)).data["createChatCompletion"]["completion"]
            said.append(found["answerCache"])
            assert found["text"] == "tok " * 4
            await api.services.inference._cache.drain()
        assert said == ["MISS", "HIT", "BYPASS", None]
        stream = (
            "subscription ($input: ChatCompletionInput!) { chatCompletion(input: $input) { answerCache } }"
        )
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(stream, input=wanted)
            assert {chunk["answerCache"] for chunk in await ws.chunks()} == {"HIT"}
        after = await self._counted(api)
        assert {name: after[name] - before[name] for name in after if not name.endswith("bytes_total")} == {
            'requests_total{outcome="hit"}': 2,
            'requests_total{outcome="miss"}': 1,
            'requests_total{outcome="bypass"}': 1,
            "kept_answers_total": 1,
            "unkept_answers_total": 0,
        }
        assert after["kept_bytes_total"] > before["kept_bytes_total"]

    async def test_a_second_endpoint_can_be_asked_for(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        before = await self._counted(api, "raymart_hedging_")
        for wish in ({"hedge": True}, {"hedge": False}, {}):
            asked = chat(seller, provider=wish)
            assert (await api(CREATE, customer.owner, input=asked)).data["createChatCompletion"]["completion"]
        after = await self._counted(api, "raymart_hedging_")
        assert {name: count - before[name] for name, count in after.items() if count != before[name]} == {
            'tries_total{outcome="not_needed"}': 1
        }

    async def _counted(self, api: Api, name: str = "raymart_answer_cache_") -> dict[str, float]:
        """What `/metrics` says of the cache, or of what begins with `name`, by the end of its name."""
        exposed = (await api.client.get("/metrics")).text
        samples = [
            line.removeprefix(name).rsplit(" ", 1) for line in exposed.splitlines() if line.startswith(name)
        ]
        return {end: float(value) for end, value in samples if "_created" not in end}

    async def test_without_funds_no_engine_is_touched_and_no_row_written(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        data = (await api(CREATE, customer.owner, input=chat(seller))).data["createChatCompletion"]
        assert data["completion"] is None
        assert [error["code"] for error in data["userErrors"]] == ["INSUFFICIENT_FUNDS"]
        assert replica.exchanges == []
        assert await rows_of(api, customer) == []

    async def test_unknown_model_names_the_nearest(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        wanted = chat(seller, model=seller.model_slug[:-1] + "z")
        [error] = (await api(CREATE, customer.owner, input=wanted)).data["createChatCompletion"]["userErrors"]
        assert error["code"] == "MODEL_NOT_FOUND"
        assert error["field"] == ["input", "model"]
        assert "did you mean" in error["message"]

    async def test_no_acceptable_endpoint_tells_the_reasons(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        wanted = chat(seller, provider={"ignore": [seller.provider_slug]})
        [error] = (await api(CREATE, customer.owner, input=wanted)).data["createChatCompletion"]["userErrors"]
        assert error["code"] == "NO_ENDPOINT"
        assert any(seller.provider_slug in reason for reason in error["reasons"])

    async def test_price_cap_is_dollars_per_million(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        """The ask of 200 nano-dollars a token is 0.20 dollars a million."""
        await api.credit(customer)
        for cap, code in (("0.199", ["NO_ENDPOINT"]), ("0.2", [])):
            wanted = chat(seller, provider={"maxPrice": {"completionPerMillion": cap}})
            data = (await api(CREATE, customer.owner, input=wanted)).data["createChatCompletion"]
            assert [error["code"] for error in data["userErrors"]] == code

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"temperature": 2.1}, ["input", "temperature"]),
            ({"topP": 0}, ["input", "topP"]),
            ({"maxTokens": 0}, ["input", "maxTokens"]),
            ({"messages": []}, ["input", "messages"]),
            ({"model": ""}, ["input", "model"]),
            ({"stop": ["a"] * 5}, ["input", "stop"]),
            ({"topLogprobs": 21}, ["input", "topLogprobs"]),
            ({"seed": str(2**70)}, ["input", "seed"]),
            ({"answerCacheSeconds": 86_401}, ["input", "answerCacheSeconds"]),
            ({"provider": {"maxPrice": {"promptPerMillion": "-1"}}}, None),
        ],
    )
    async def test_value_out_of_range_names_its_field(
        self, api: Api, customer: Tenant, seller: Seller, changes: dict[str, Any], field: list[str] | None
    ) -> None:
        data = (await api(CREATE, customer.owner, input=chat(seller, **changes))).data["createChatCompletion"]
        [error] = data["userErrors"]
        assert error["code"] == "INVALID"
        assert error["field"] == (field or ["input", "provider", "maxPrice", "promptPerMillion"])

    async def test_failed_endpoint_is_a_user_error_and_costs_nothing(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        async def die(exchange: Exchange) -> None:
            exchange.cut()

        replica.script = die
        await api.credit(customer)
        data = (await api(CREATE, customer.owner, input=chat(seller))).data["createChatCompletion"]
        assert [error["code"] for error in data["userErrors"]] == ["UPSTREAM_FAILED"]
        assert (await until_settled(api, customer)).available.decimal() == 1

    async def test_no_transaction_is_held_while_tokens_flow(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        release = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            exchange.prompt()
            await release.wait()
            exchange.step()
            exchange.finish(revision=seller.digest)

        replica.script = slow
        await api.credit(customer)
        answer = asyncio.create_task(
            api(CREATE, customer.owner, input=chat(seller, projectId=customer.project))
        )
        await until(lambda: replica.exchanges)
        await until(lambda: api.services.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]
        release.set()
        assert (await answer).data["createChatCompletion"]["completion"]

    async def test_client_that_leaves_stops_the_engine(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        async def endless(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step()
            await exchange.gone.wait()

        replica.script = endless
        await api.credit(customer)
        answer = asyncio.create_task(api(CREATE, customer.owner, input=chat(seller)))
        await until(lambda: replica.exchanges and replica.exchanges[0].steps)
        answer.cancel()
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        settled = await until_settled(api, customer)
        assert settled.available.decimal() >= 1 - price(3, 1)
        [row] = await rows_of(api, customer)
        assert row.state is RequestState.CANCELLED


class TestSubscription:
    async def test_deltas_then_usage_and_cost(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(STREAM, input=chat(seller))
            *deltas, last = await ws.chunks()
        assert [chunk["delta"] for chunk in deltas] == ["tok "] * 4
        assert all(chunk["usage"] is None and chunk["cost"] is None for chunk in deltas)
        assert {chunk["requestId"] for chunk in [*deltas, last]} == {last["requestId"]}
        assert last["delta"] == ""
        assert last["finishReason"] == "LENGTH"
        assert last["usage"] == {"tokensPrompt": 3, "tokensCompletion": 4}
        assert Decimal(last["cost"]["amount"]) == price(3, 4)
        assert last["provider"] == {"slug": seller.provider_slug}
        assert last["userErrors"] == []
        row = await request_row(api, last["requestId"])
        assert (row.surface, row.streamed) == (Surface.GRAPHQL, True)

    async def test_deltas_arrive_as_they_are_generated(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        more = asyncio.Event()

        async def haltingly(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step("one ")
            await more.wait()
            exchange.step("two")
            exchange.finish(FinishReason.STOP, revision=seller.digest)

        replica.script = haltingly
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(STREAM, input=chat(seller))
            first = await ws.receive()
            assert first["payload"]["data"]["chatCompletion"]["delta"] == "one "
            await until(lambda: api.services.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]
            more.set()
            rest = await ws.chunks()
        assert [chunk["delta"] for chunk in rest] == ["two", ""]

    @pytest.mark.parametrize("leave", ["complete", "close"])
    async def test_closing_stops_the_engine_and_bills_what_was_delivered(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica, leave: str
    ) -> None:
        async def endless(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step()
            exchange.step()
            await exchange.gone.wait()

        replica.script = endless
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(STREAM, input=chat(seller, maxTokens=100))
            for _ in range(2):
                chunk = (await ws.receive())["payload"]["data"]["chatCompletion"]
            if leave == "complete":
                await ws.send({"id": "1", "type": "complete"})
                async with asyncio.timeout(30):
                    await replica.exchanges[0].gone.wait()
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        settled = await until_settled(api, customer)
        assert settled.posted.decimal() == 1 - price(3, 2)
        row = await request_row(api, chunk["requestId"])
        assert row.state is RequestState.CANCELLED

    async def test_stream_that_breaks_says_so_and_bills_what_was_delivered(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        async def fail(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step()
            exchange.fail("out of memory", Fault.PROVIDER)

        replica.script = fail
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(STREAM, input=chat(seller, provider={"allowResume": False}))
            *_, last = await ws.chunks()
        assert last["finishReason"] == "ERROR"
        assert [error["code"] for error in last["userErrors"]] == ["UPSTREAM_FAILED"]
        assert Decimal(last["cost"]["amount"]) == price(3, 1)

    async def test_stream_goes_on_and_says_where(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        """At the same endpoint here: there is no other, and its next stream lives."""

        async def die(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step()
            await asyncio.sleep(0.01)
            exchange.cut()

        replica.scripts = [die]
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(
                STREAM.replace("attempts", "attempts resumed { position seed provider { slug } }"),
                input=chat(seller, temperature=0.0),
            )
            *chunks, last = await ws.chunks()
        assert "".join(chunk["delta"] for chunk in chunks) == "tok " * 4
        assert last["finishReason"] == "LENGTH"
        assert last["resumed"] == [{"position": 1, "seed": None, "provider": {"slug": seller.provider_slug}}]

    async def test_refusal_is_one_chunk_with_user_errors(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(STREAM, input=chat(seller))
            [refusal] = await ws.chunks()
        assert [error["code"] for error in refusal["userErrors"]] == ["INSUFFICIENT_FUNDS"]
        assert refusal["requestId"] is None
        assert replica.exchanges == []

    async def test_many_run_over_one_socket(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            for number in range(3):
                await ws.subscribe(STREAM, id_=str(number), input=chat(seller))
            await ws.subscribe("{ viewer { user { email } } }", id_="query")
            ended, emails = set(), []
            while len(ended) < 4:
                message = await ws.receive()
                if message["type"] == "complete":
                    ended.add(message["id"])
                elif message["id"] == "query":
                    emails.append(message["payload"]["data"]["viewer"]["user"]["email"])
        assert emails == [customer.owner.email]
        assert len(await rows_of(api, customer)) == 3

    async def test_anothers_project_is_refused(
        self, api: Api, customer: Tenant, stranger: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(stranger)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(STREAM, input=chat(seller, projectId=stranger.project))
            message = await ws.receive()
        assert message["type"] == "error"
        assert [error["extensions"]["code"] for error in message["payload"]] == ["FORBIDDEN"]
        assert message["payload"][0]["extensions"]["requestId"].startswith("req_")


class TestSocket:
    @pytest.mark.parametrize("payload", [None, {}, {"Authorization": "Bearer wrong"}, {"Authorization": 5}])
    async def test_without_right_credentials_it_is_closed(self, api: Api, payload: object) -> None:
        async with opened(api) as ws:
            await ws.send({"type": "connection_init"} | ({"payload": payload} if payload is not None else {}))
            assert await ws.closed() == 4403

    async def test_header_of_the_handshake_will_do(self, api: Api, customer: Tenant) -> None:
        headers = {"Authorization": f"Bearer {customer.owner.token}"}
        async with opened(api, additional_headers=headers) as ws:
            await ws.send({"type": "connection_init"})
            assert (await ws.receive())["type"] == "connection_ack"

    async def test_operation_before_init_is_refused(self, api: Api) -> None:
        async with opened(api) as ws:
            await ws.subscribe("{ __typename }")
            assert await ws.closed() == 4401

    @pytest.mark.parametrize("subprotocols", [["graphql-ws"], None])
    async def test_other_protocols_are_refused(self, api: Api, subprotocols: list[str] | None) -> None:
        async with opened(api, subprotocols=subprotocols) as ws:
            assert await ws.closed() == 4406

    async def test_foreign_page_is_refused(self, api: Api, customer: Tenant) -> None:
        with pytest.raises(websockets.InvalidStatus) as refusal:
            async with opened(api, origin="https://evil.example"):
                pass
        assert refusal.value.response.status_code == 403

    @pytest.mark.parametrize(
        "text",
        [
            "5", "null", "[]", "{}", '{"type": 5}', '{"type": "subscribe"}', '{"type": "subscribe", "id": 5}',
            '{"type": "subscribe", "id": "1", "payload": 5}',
            '{"type": "subscribe", "id": "1", "payload": {"query": 5}}',
            '{"type": "subscribe", "id": "1", "payload": {"query": "{ a }", "variables": [1]}}',
            '{"type": "complete"}', '{"type": "next"}', "not json", '{"a": "\\ud800"}', "[" * 50_000, '{"type": "x"}',
        ],
    )  # fmt: skip
    async def test_malformed_message_closes_it_cleanly(self, api: Api, customer: Tenant, text: str) -> None:
        async with connected(api, customer.owner) as ws:
            await ws.connection.send(text)
            assert await ws.closed() == 4400

    async def test_binary_message_closes_it_cleanly(self, api: Api, customer: Tenant) -> None:
        async with connected(api, customer.owner) as ws:
            await ws.connection.send(b"\x00\xff")
            assert await ws.closed() == 4400

    async def test_wrong_document_is_an_error_with_a_code(self, api: Api, customer: Tenant) -> None:
        async with connected(api, customer.owner) as ws:
            await ws.subscribe("subscription { nothing }")
            message = await ws.receive()
        assert message["type"] == "error"
        assert message["payload"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


class TestSlowClient:
    async def test_client_that_does_not_read_frees_the_engine(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Back-pressure reaches the engine, and after a while the operation is given up and billed."""
        monkeypatch.setattr(transport_ws, "SEND_TIMEOUT_S", 0.3)
        async with api_server(control_settings(database_url), send_buffer_bytes=4_096) as api:
            customer, seller = await api.tenant(), await api.seller()

            async def flood(exchange: Exchange) -> None:
                exchange.prompt()
                for _ in range(900):
                    exchange.step("x" * 200)
                await exchange.gone.wait()

            await api.credit(customer)
            async with ScriptedReplica(flood) as replica:
                await api.serve(seller, replica)
                client = socket.create_connection(("127.0.0.1", api.port))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                async with connected(api, customer.owner, sock=client, close_timeout=1) as slow:
                    slow.connection.transport.pause_reading()  # type: ignore[attr-defined]
                    await slow.subscribe(STREAM, input=chat(seller, maxTokens=900))
                    await until(lambda: replica.exchanges)
                    async with asyncio.timeout(20):
                        await replica.exchanges[0].gone.wait()
                    await until_settled(api, customer)
                    [row] = await rows_of(api, customer)
                    assert row.state is RequestState.CANCELLED
                    slow.connection.transport.resume_reading()  # type: ignore[attr-defined]
