"""Faults of the whole product, caused for real: processes killed, the database restarted, no money.

Each is kept by faster tests too, or by `make chaos`: a replica's death by promises 8 and 9, an agent's by
`tests/providers/test_agent.py`, money by promise 2, a client that leaves by promise 10, the database's restart and the
power cut by promises 4 and 6. Here they meet, with Ray and all processes of `raymart up`.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from raymart_core.ids import Prefix, parse
from raymart_core.money import Money
from support.running_stack import HOLD_TTL_S, RunningStack, events, stories

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


async def when_there_is_room(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    """The answer, asked for again as long as it is that the model is busy."""
    while True:
        answer = await client.post("/v1/chat/completions", json=body)
        if answer.status_code != 503:
            return answer
        assert answer.json()["error"]["code"] == "model_overloaded"
        await asyncio.sleep(int(answer.headers["retry-after"]))


def only(provider: str) -> dict[str, list[str]]:
    return {"only": [provider]}


def prefer(provider: str) -> dict[str, list[str]]:
    return {"order": [provider]}


class TestReplicaDeath:
    async def test_before_the_first_token_another_provider_answers(self, ready: RunningStack):
        replica = ready.replica_of("demo-a")
        # Stopped, it accepts the request and says nothing: the moment between dispatch and first token, held open.
        replica.suspend()
        async with ready.client() as client:
            asking = asyncio.create_task(
                client.post("/v1/chat/completions", json=stories(max_tokens=5, provider=prefer("alpha")))
            )
            await asyncio.sleep(1)
            assert not asking.done()
            replica.kill()
            killed_at = time.monotonic()
            answer = await asking
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-raymart-provider"] == "beta"
        assert answer.headers["x-raymart-attempts"] == "2"
        assert time.monotonic() - killed_at < 2

    async def test_a_stream_that_is_not_to_be_taken_up_ends_with_an_error_and_a_bill_for_what_was_delivered(
        self, ready: RunningStack
    ):
        replica, delivered, error = ready.replica_of("demo-b"), 0, None
        body = stories(stream=True, provider={**only("beta"), "allow_resume": False}, logprobs=True)
        async with (
            ready.client() as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            request_id = answer.headers["x-request-id"]
            async for line in answer.aiter_lines():
                assert line != "data: [DONE]" or error is not None
                for event in events([line]):
                    error = event.get("error", error)
                    for choice in event.get("choices", []):
                        tokens = (choice.get("logprobs") or {}).get("content") or []
                        delivered += len(tokens)
                if delivered >= 10 and replica.is_running():
                    replica.kill()
        assert error is not None
        ready.wait_until(lambda: ready.unposted() == 0, timeout_s=10, what="usage is posted")
        [(completion, state, customer, provider, fee)] = ready.rows(
            "select u.tokens_completion, r.state, u.customer_nano_usd, u.provider_nano_usd, u.fee_nano_usd "
            "from usage_record u join request r using (id) where id = %s",
            parse(Prefix.REQUEST, request_id),
        )
        assert state == "failed"
        assert completion == delivered >= 10
        assert customer == provider + fee > 0


class TestAgentDeath:
    async def test_its_endpoints_leave_within_5_s_and_come_back_by_themselves(self, ready: RunningStack):
        ready.agent_of("demo-a").kill()
        ready.wait_until(lambda: ready.live_providers() == {"beta"}, timeout_s=5, what="alpha left routing")
        ready.wait_until(
            lambda: ready.live_providers() == {"alpha", "beta"}, timeout_s=30, what="alpha is back"
        )

    async def test_no_provider_left_is_503_with_the_reasons(self, ready: RunningStack):
        async with ready.client() as client:
            answer = await client.post("/v1/chat/completions", json=stories(provider=only("nobody")))
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "no_endpoint"
        assert len(error["metadata"]["reasons"]) == 2


class TestMoney:
    async def test_200_at_once_on_a_balance_for_50_serve_exactly_50(self, ready: RunningStack):
        """Prompts cost nothing and every answer reaches max_tokens, so that quote and charge are the same amount.

        More is asked than the machines have room for; what is turned away comes again.
        """
        tokens, price = 3, 120
        offer = set_asks(ready, provider="alpha", prompt="0", completion="0.000000120")
        try:
            customer = await asyncio.to_thread(ready.new_customer, Money(50 * tokens * price))
            body = stories(max_tokens=tokens, provider=only("alpha"))
            async with ready.client(customer.api_key) as client:
                answers = await asyncio.gather(*(when_there_is_room(client, body) for _ in range(200)))
        finally:
            set_asks(ready, provider="alpha", prompt=offer["prompt"], completion=offer["completion"])
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(200), statuses.count(402)) == (50, 150)
        ready.wait_until(lambda: ready.unposted() == 0, timeout_s=10, what="usage is posted")
        [(spent, granted, pending)] = ready.rows(
            "select debits_posted, credits_posted, debits_pending from ledger_account "
            "where kind = 'customer_balance' and owner_id = %s",
            customer.organization_id,
        )
        assert spent == granted
        assert pending == 0

    async def test_without_funds_no_engine_is_touched(self, ready: RunningStack):
        customer = await asyncio.to_thread(ready.new_customer, Money(1))
        before = ready.rows("select count(*) from request")
        async with ready.client(customer.api_key) as client:
            answer = await client.post("/v1/chat/completions", json=stories())
        assert answer.status_code == 402
        assert answer.json()["error"]["code"] == "insufficient_funds"
        assert ready.rows("select count(*) from request") == before

    async def test_a_client_that_leaves_pays_for_what_it_got(self, ready: RunningStack):
        body = stories(stream=True, provider=only("alpha"))
        async with (
            ready.client() as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            request_id, got = parse(Prefix.REQUEST, answer.headers["x-request-id"]), 0
            async for line in answer.aiter_lines():
                got += sum(
                    1
                    for event in events([line])
                    for choice in event["choices"]
                    if choice["delta"].get("content")
                )
                if got == 8:
                    break

        def billed() -> list[tuple[int, str]]:
            return ready.rows(
                "select u.tokens_completion, r.state from usage_record u join request r using (id) where id = %s",
                request_id,
            )

        ready.wait_until(lambda: bool(billed()), timeout_s=5, what="the request is recorded")
        [(completion, state)] = billed()
        assert state == "cancelled"
        assert 8 <= completion < 40
        ready.wait_until(lambda: ready.pending_nano_usd() == 0, timeout_s=10, what="nothing is held")


class TestDatabaseRestart:
    async def test_no_acknowledged_request_is_unrecorded(self, ready: RunningStack):
        acknowledged: list[str] = []
        stop = asyncio.Event()

        async def load() -> None:
            async with ready.client() as client:
                while not stop.is_set():
                    try:
                        answer = await client.post("/v1/chat/completions", json=stories(max_tokens=4))
                    except httpx.HTTPError:
                        continue
                    if answer.status_code == 200:
                        acknowledged.append(answer.headers["x-request-id"])
                    else:
                        await asyncio.sleep(0.05)

        running = [asyncio.create_task(load()) for _ in range(6)]

        async def served(count: int) -> None:
            """On a busy machine the first answer alone takes seconds."""
            async with asyncio.timeout(120):
                while len(acknowledged) < count:
                    await asyncio.sleep(0.05)

        try:
            await served(10)
            await asyncio.to_thread(ready.postgres.stop, "immediate")
            await asyncio.to_thread(ready.postgres.start)
            await served(len(acknowledged) + 30)
        finally:
            stop.set()
            await asyncio.gather(*running)
        ids = [parse(Prefix.REQUEST, shown) for shown in acknowledged]
        [(recorded,)] = ready.rows("select count(*) from usage_record where id = any(%s)", ids)
        assert recorded == len(set(ids)) == len(ids)


class TestPowerCut:
    async def test_after_sigkill_of_everything_the_books_balance_and_no_hold_is_stuck(
        self, ready: RunningStack
    ):
        async with AsyncExitStack() as streams:
            client = await streams.enter_async_context(ready.client())
            for _ in range(4):
                asking = client.stream("POST", "/v1/chat/completions", json=stories(stream=True))
                answer = await streams.enter_async_context(asking)
                assert (await anext(answer.aiter_lines())).startswith("data: {")
            assert ready.pending_nano_usd() > 0
            ready.kill_everything()
        assert ready.processes() == []
        await asyncio.to_thread(ready.start)
        ready.wait_until(
            lambda: ready.pending_nano_usd() == 0,
            timeout_s=HOLD_TTL_S + 15,
            what="the holds of the dead streams are void",
        )
        ready.wait_until(lambda: ready.unposted() == 0, timeout_s=15, what="usage is posted")
        books = ready.books()
        assert books["balanced"] is True
        assert float(books["drift"]["amount"]) == 0
        assert books["debits"] == books["credits"]


def set_asks(stack: RunningStack, *, provider: str, prompt: str, completion: str) -> dict[str, str]:
    """Set a provider's asks and wait until routing has them; returns the asks from before."""
    account = next(
        index
        for index, entry in enumerate(stack.credentials["providers"])
        if entry["email"].startswith(provider)
    )
    token = stack.credentials["providers"][account]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    query = (
        '{ model(slug: "raymart/demo-chat") { offers(first: 10) '
        "{ nodes { id provider { slug } asks { prompt { amount } completion { amount } } } } } }"
    )
    found = httpx.post(f"{stack.base_url}/graphql", json={"query": query}, headers=headers, timeout=30).json()
    [offer] = [
        node for node in found["data"]["model"]["offers"]["nodes"] if node["provider"]["slug"] == provider
    ]
    mutation = (
        "mutation($input: SetOfferAsksInput!) { setOfferAsks(input: $input) { userErrors { message } } }"
    )
    variables = {"input": {"offerId": offer["id"], "prompt": prompt, "completion": completion}}
    answer = httpx.post(
        f"{stack.base_url}/graphql",
        json={"query": mutation, "variables": variables},
        headers=headers,
        timeout=30,
    ).json()
    assert answer["data"]["setOfferAsks"]["userErrors"] == [], answer
    time.sleep(3)  # The directory reads asks every 2 s.
    return {"prompt": offer["asks"]["prompt"]["amount"], "completion": offer["asks"]["completion"]["amount"]}
