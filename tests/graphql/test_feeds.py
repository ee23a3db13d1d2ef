"""Usage, balance and machines as they change, over a real socket, Redis and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from raymart_core.ids import Prefix, new_id, show
from raymart_graphql.execution import SharedEvent
from raymart_graphql.feeds import (
    EVERYBODY,
    BalanceState,
    Hints,
    Hub,
    Kind,
    Topic,
    UsageLine,
    UsageState,
)
from raymart_graphql.feeds.hints import PENDING_MAX, decoded, encoded
from raymart_graphql.feeds.hub import Slot
from raymart_graphql.schema.feeds.types import BalanceTick, NodesTick, UsageTick, added
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.models import Role
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.shared_state import make_redis
from raymart_marketplace.supply import models as supply
from support.api_server import Api, Seller, Tenant, api_server, control_settings
from support.completions import STREAM, chat, price
from support.graphql_socket import Socket, connected
from support.scripted_replica import ScriptedReplica

LINE = "{ apiKeyId modelSlug requests tokensPrompt tokensCompletion amount { amount } }"
USAGE = f"""
subscription ($id: ID!) {{
  usageTicks(input: {{organizationId: $id}}) {{ organizationId lines {LINE} added {LINE} }}
}}
"""
BALANCE = """
subscription ($id: ID!) {
  balanceChanged(input: {organizationId: $id}) { posted { amount } pending { amount } available { amount } }
}
"""
NODES = """
subscription ($id: ID!) { nodeStatus(input: {providerId: $id}) { providerId nodes { nodeId name state } } }
"""


async def next_(ws: Socket, field: str, *, id_: str = "1") -> dict[str, Any]:
    message = await ws.receive()
    assert (message["type"], message["id"]) == ("next", id_), message
    assert "errors" not in message["payload"], message
    found: dict[str, Any] = message["payload"]["data"][field]
    return found


async def until_posted(ws: Socket, dollars: str) -> None:
    while Decimal((await next_(ws, "balanceChanged"))["posted"]["amount"]) != Decimal(dollars):
        pass


class TestBalanceChanged:
    async def test_present_state_then_each_change(self, api: Api, customer: Tenant) -> None:
        await api.credit(customer, 5 * 10**9)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(BALANCE, id=customer.id)
            first = await next_(ws, "balanceChanged")
            assert first["posted"] == first["available"] == {"amount": "5.000000000"}
            await api.credit(customer, 10**9)
            # Not through a mutation: as another process that gives no hint would. Somebody's hint, or the next poll.
            api.services.hints_of_feeds.give(Kind.BALANCE, [customer.organization_id])
            assert (await next_(ws, "balanceChanged"))["posted"] == {"amount": "6.000000000"}

    async def test_a_mutation_is_seen_without_waiting_for_the_poll(self, api: Api, customer: Tenant) -> None:
        admin = await api.admin()
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(BALANCE, id=customer.id)
            assert (await next_(ws, "balanceChanged"))["posted"] == {"amount": "0.000000000"}
            begun = asyncio.get_running_loop().time()
            await api(
                "mutation ($input: GrantCreditInput!) { grantCredit(input: $input) { userErrors { message } } }",
                admin,
                input={
                    "organizationId": customer.id, "amount": "2", "reason": "test", "idempotencyKey": new_id().hex
                },
            )  # fmt: skip
            assert (await next_(ws, "balanceChanged"))["posted"] == {"amount": "2.000000000"}
            assert asyncio.get_running_loop().time() - begun < 8, "that was the poll"


class TestUsageTicks:
    async def test_a_posted_request_is_added_and_summed(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(USAGE, id=customer.id)
            first = await next_(ws, "usageTicks")
            assert first == {"organizationId": customer.id, "lines": [], "added": []}
            for count in (1, 2):
                await ask(api, customer, seller)
                tick = await next_(ws, "usageTicks")
                [line], [more] = tick["lines"], tick["added"]
                assert line["modelSlug"] == seller.model_slug
                assert line["requests"] == str(count)
                assert Decimal(line["amount"]["amount"]) == count * price(3, 4)
                assert more == line | {
                    "requests": "1",
                    "tokensPrompt": "3",
                    "tokensCompletion": "4",
                    "amount": {"amount": f"{price(3, 4):.9f}"},
                }

    async def test_who_reconnects_goes_on_from_the_state(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(USAGE, id=customer.id)
            await next_(ws, "usageTicks")
            await ask(api, customer, seller)
            seen = await next_(ws, "usageTicks")
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(USAGE, id=customer.id)
            assert await next_(ws, "usageTicks") == seen | {"added": []}


class TestNodeStatus:
    async def test_machines_of_the_provider_as_they_change(self, api: Api, seller: Seller) -> None:
        async with connected(api, seller.tenant.owner) as ws:
            await ws.subscribe(NODES, id=seller.id)
            first = await next_(ws, "nodeStatus")
            assert [(node["nodeId"], node["state"]) for node in first["nodes"]] == [
                (show(Prefix.NODE, seller.node_id), "READY")
            ]
            async with session_scope(api.services.sessions) as session:
                await session.execute(
                    update(supply.Node)
                    .where(supply.Node.id == seller.node_id)
                    .values(state=supply.NodeState.OFFLINE)
                )
            assert [node["state"] for node in (await next_(ws, "nodeStatus"))["nodes"]] == ["OFFLINE"]


class TestFollowing:
    async def test_many_followers_of_one_topic_cost_one_read(self, api: Api, customer: Tenant) -> None:
        reads: list[int] = []

        async def read(_session: Any, ids: Any) -> Any:
            reads.append(len(ids))
            return {each: BalanceState(organization_id=each, posted=len(reads), pending=0) for each in ids}

        async with hub_of(api, read) as hub:
            topic = Topic(Kind.BALANCE, new_id())
            followers = [hub.follow(topic) for _ in range(50)]
            states = await asyncio.gather(*(anext(follower) for follower in followers))
            assert reads == [1]
            assert all(state is states[0] for state in states)
            begun = hub._now()
            for _ in range(20):
                hub.hear(topic)
            states = await asyncio.gather(*(anext(follower) for follower in followers))
            assert reads == [1, 1], "twenty hints are one read"
            assert hub._now() - begun > 0.5, "not sooner than a tick"
            for follower in followers:
                await follower.aclose()
            assert len(hub) == 0

    async def test_a_state_that_is_the_same_is_not_shown_again(self, api: Api) -> None:
        posted = 1

        async def read(_session: Any, ids: Any) -> Any:
            return {each: BalanceState(organization_id=each, posted=posted, pending=0) for each in ids}

        async with hub_of(api, read) as hub:
            topic = Topic(Kind.BALANCE, new_id())
            follower = hub.follow(topic)
            await anext(follower)
            waiting = asyncio.ensure_future(anext(follower))
            hub.hear(topic)
            await asyncio.wait({waiting}, timeout=1.5)
            assert not waiting.done()
            posted = 2
            hub.hear(Topic(Kind.BALANCE, EVERYBODY))
            assert (await waiting).posted == 2  # type: ignore[union-attr]
            await follower.aclose()

    async def test_database_that_is_away_is_asked_again(self, api: Api) -> None:
        tries = 0

        async def read(_session: Any, ids: Any) -> Any:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise OSError("away")
            return {each: BalanceState(organization_id=each, posted=7, pending=0) for each in ids}

        async with hub_of(api, read) as hub:
            follower = hub.follow(Topic(Kind.BALANCE, new_id()))
            assert (await anext(follower)).posted == 7  # type: ignore[union-attr]
            await follower.aclose()

    async def test_slow_follower_gets_the_last_state_alone(self) -> None:
        slot = Slot()
        for posted in range(1_000):
            slot.put(balance_state(posted))
        assert await slot.take() == balance_state(999)

    async def test_redis_that_restarts_is_heard_again_on_the_same_socket(
        self, database_url: str, tmp_path: Path
    ) -> None:
        """While it is away the state is polled; once it is back, hints count again. Nothing is lost meanwhile."""
        redis = EmbeddedRedis(tmp_path)
        settings = control_settings(database_url, redis_url=redis.start())
        try:
            async with api_server(settings) as own:
                customer = await own.tenant()
                async with asyncio.timeout(30):
                    await own.services.feeds.listening.wait()
                async with connected(own, customer.owner) as ws:
                    await ws.subscribe(BALANCE, id=customer.id)
                    await next_(ws, "balanceChanged")
                    redis.stop()
                    await own.credit(customer, 10**9)
                    await until_posted(ws, "1")
                    redis.start()
                    async with asyncio.timeout(30):
                        await own.services.feeds.listening.wait()
                    await own.credit(customer, 10**9)
                    own.services.hints_of_feeds.give(Kind.BALANCE, [customer.organization_id])
                    await until_posted(ws, "2")
        finally:
            redis.stop()


class TestHints:
    async def test_hints_reach_another_process(self, redis_server: EmbeddedRedis, api: Api) -> None:
        """Another hub, with a client of its own, as another process has."""
        reads = 0

        async def read(_session: Any, ids: Any) -> Any:
            nonlocal reads
            reads += 1
            return {each: balance_state(reads, each) for each in ids}

        async with hub_of(api, read, redis_url=redis_server.url) as hub:
            async with asyncio.timeout(30):
                await hub.listening.wait()
            organization_id = new_id()
            follower = hub.follow(Topic(Kind.BALANCE, organization_id))
            await anext(follower)
            api.services.hints_of_feeds.usage_posted([organization_id])
            async with asyncio.timeout(30):
                assert (await anext(follower)).posted > 1  # type: ignore[union-attr]
            await follower.aclose()

    async def test_giving_never_waits_and_drops_when_redis_is_away(self) -> None:
        redis = make_redis("redis://127.0.0.1:1")
        hints = Hints(redis)
        hints.start()
        for _ in range(3):
            hints.give(Kind.USAGE, [new_id() for _ in range(PENDING_MAX)])
        assert len(hints._pending) == PENDING_MAX
        async with asyncio.timeout(30):
            while hints._pending:
                await asyncio.sleep(0.05)
        await hints.stop()
        await redis.aclose()

    def test_messages_are_read_as_they_were_written(self) -> None:
        topics = {Topic(kind, new_id()) for kind in Kind} | {Topic(Kind.NODES, EVERYBODY)}
        assert set(decoded(encoded(topics))) == topics

    @pytest.mark.parametrize("message", [b"", b"u", b"\xff" * 17, b"z" + bytes(16), b"u" + bytes(15)])
    def test_what_is_no_message_says_nothing(self, message: bytes) -> None:
        assert list(decoded(message)) == []


class TestAdded:
    TODAY = datetime(2026, 11, 20, tzinfo=UTC).date()

    def state(self, *lines: UsageLine, days: int = 0) -> UsageState:
        return UsageState(organization_id=UUID(int=1), day=self.TODAY + timedelta(days=days), lines=lines)

    def line(self, key: int | None, model: int, requests: int) -> UsageLine:
        return UsageLine(
            api_key_id=None if key is None else UUID(int=key), model_id=UUID(int=model), model_slug="m",
            requests=requests, tokens_prompt=requests, tokens_completion=requests, amount_nano_usd=requests,
        )  # fmt: skip

    def test_only_what_grew_by_how_much(self) -> None:
        before = self.state(self.line(1, 1, 5), self.line(None, 1, 2))
        after = self.state(self.line(1, 1, 8), self.line(None, 1, 2), self.line(1, 2, 1))
        assert list(added(after, before)) == [self.line(1, 1, 3), self.line(1, 2, 1)]

    def test_a_new_day_begins_anew(self) -> None:
        after = self.state(self.line(1, 1, 2), days=1)
        assert list(added(after, self.state(self.line(1, 1, 5)))) == [self.line(1, 1, 2)]


class TestSharedEvents:
    def test_every_field_of_a_shared_event_is_plain(self) -> None:
        """They are completed once and shown to all: nothing in them may depend on who asks."""
        pending: list[Any] = [UsageTick, BalanceTick, NodesTick]
        assert set(pending) == set(SharedEvent.__subclasses__())
        while pending:
            for field in pending.pop().__strawberry_definition__.fields:
                assert not field.base_resolver, field.name
                assert not field.extensions, field.name
                kind = field.type
                while hasattr(kind, "of_type"):
                    kind = kind.of_type
                if hasattr(kind, "__strawberry_definition__"):
                    pending.append(kind)

    async def test_followers_see_what_they_selected(self, api: Api, customer: Tenant) -> None:
        """Also when others selected something else of the same event, under the same text with other variables."""
        document = """
        subscription ($id: ID!, $more: Boolean!) {
          mine: balanceChanged(input: {organizationId: $id}) {
            posted { currency } ... @include(if: $more) { organizationId }
          }
        }
        """
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(document, id_="a", id=customer.id, more=True)
            await ws.subscribe(document, id_="b", id=customer.id, more=False)
            await ws.subscribe(BALANCE, id_="c", id=customer.id)
            got = {(message := await ws.receive())["id"]: message["payload"]["data"] for _ in range(3)}
        assert got["a"] == {"mine": {"posted": {"currency": "USD"}, "organizationId": customer.id}}
        assert got["b"] == {"mine": {"posted": {"currency": "USD"}}}
        assert got["c"]["balanceChanged"]["available"] == {"amount": "0.000000000"}

    async def test_another_customers_is_refused(self, api: Api, customer: Tenant, stranger: Tenant) -> None:
        async with connected(api, stranger.people[Role.OWNER]) as ws:
            for document in (USAGE, BALANCE):
                await ws.subscribe(document, id=customer.id)
                message = await ws.receive()
                assert message["payload"][0]["extensions"]["code"] == "FORBIDDEN"


async def ask(api: Api, customer: Tenant, seller: Seller) -> None:
    async with connected(api, customer.owner) as ws:
        await ws.subscribe(STREAM, input=chat(seller))
        await ws.chunks()


def balance_state(posted: int, of: UUID = EVERYBODY) -> BalanceState:
    return BalanceState(organization_id=of, posted=posted, pending=0)


@asynccontextmanager
async def hub_of(api: Api, read: Any, *, redis_url: str = "redis://127.0.0.1:1") -> AsyncIterator[Hub]:
    redis = make_redis(redis_url)
    hub = Hub(api.services.sessions, redis, dict.fromkeys(Kind, read))
    hub.start()
    try:
        yield hub
    finally:
        await hub.stop()
        await redis.aclose()
