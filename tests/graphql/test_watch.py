"""Access is asked for again while a subscription is open: within 5 s of its end the client is told, with a code."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, update

from raymart_graphql import watch
from raymart_graphql.feeds import Kind
from raymart_marketplace.accounts.models import ApiKey, Membership, Role, User
from raymart_marketplace.db.session import session_scope
from support.api_server import Api, Seller, Tenant, api_server, control_settings
from support.completions import STREAM, chat
from support.event_stream import followed
from support.graphql_socket import Socket, connected
from support.link_market import until
from support.scripted_replica import Exchange, ScriptedReplica
from support.statements import counted

BALANCE = "subscription ($id: ID!) { balanceChanged(input: {organizationId: $id}) { posted { amount } } }"
LIMIT_S = 5.0


async def follow(ws: Socket, tenant: Tenant, *, id_: str = "1") -> None:
    await ws.subscribe(BALANCE, id_=id_, id=tenant.id)
    message = await ws.receive()
    assert message["type"] == "next", message


async def ended_with(ws: Socket) -> str:
    """The code that ends the operation, in time, with the protocol's `complete` behind it."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            message = await ws.receive()
            if "errors" in message.get("payload", ()):
                break
    assert (await ws.receive())["type"] == "complete"
    code: str = message["payload"]["errors"][0]["extensions"]["code"]
    return code


async def credited(api: Api, tenant: Tenant) -> None:
    """Money to spend, and the hint that tells those who follow the balance."""
    await api.credit(tenant)
    api.services.hints_of_feeds.give(Kind.BALANCE, [tenant.organization_id])


async def change(api: Api, statement: Any) -> None:
    async with session_scope(api.services.sessions) as session:
        assert (await session.execute(statement)).rowcount == 1


class TestWatch:
    async def test_removed_member_is_turned_out_and_others_stay(self, api: Api, customer: Tenant) -> None:
        viewer = customer.people[Role.VIEWER]
        async with connected(api, viewer) as ws, connected(api, customer.owner) as other:
            await follow(ws, customer)
            await follow(other, customer)
            await change(
                api,
                delete(Membership).where(
                    Membership.user_id == viewer.user_id,
                    Membership.organization_id == customer.organization_id,
                ),
            )
            assert await ended_with(ws) == "FORBIDDEN"
            # The socket stays open: its other operations may still be allowed.
            await ws.subscribe("{ __typename }", id_="2")
            assert (await ws.receive())["payload"] == {"data": {"__typename": "Query"}}
            await credited(api, customer)
            assert (await other.receive())["type"] == "next"

    async def test_event_streams_end_alike(self, api: Api, customer: Tenant) -> None:
        viewer = customer.people[Role.VIEWER]
        async with followed(api, BALANCE, viewer, id=customer.id) as events:
            name, first = await events.next()
            assert (name, first) == (
                "next",
                {"data": {"balanceChanged": {"posted": {"amount": "0.000000000"}}}},
            )
            await change(api, delete(Membership).where(Membership.user_id == viewer.user_id))
            async with asyncio.timeout(LIMIT_S):
                name, last = await events.next()
            assert last is not None
            assert last["errors"][0]["extensions"]["code"] == "FORBIDDEN"
            assert (await events.next())[0] == "complete"

    async def test_disabled_user_is_turned_out(self, api: Api, customer: Tenant) -> None:
        viewer = customer.people[Role.VIEWER]
        async with connected(api, viewer) as ws:
            await follow(ws, customer)
            await change(
                api,
                update(User).where(User.id == viewer.user_id).values(disabled_at=func.clock_timestamp()),
            )
            assert await ended_with(ws) == "UNAUTHENTICATED"

    async def test_token_that_expires_ends_its_subscriptions(self, database_url: str) -> None:
        async with api_server(control_settings(database_url, access_token_ttl_s=60)) as own:
            customer = await own.tenant()
            clock = own.services.watch._clock

            class Later:
                def now(self) -> Any:
                    return clock.now() + timedelta(seconds=3600)

            async with connected(own, customer.owner) as ws:
                await follow(ws, customer)
                own.services.watch._clock = Later()
                assert await ended_with(ws) == "UNAUTHENTICATED"

    async def test_revoked_key_stops_its_generation_which_is_billed(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ) -> None:
        async def endless(exchange: Exchange) -> None:
            exchange.prompt()
            exchange.step()
            await exchange.gone.wait()

        replica.script = endless
        await api.credit(customer)
        key_id, secret = await api.api_key(customer)
        async with connected(api, secret) as ws:
            await ws.subscribe(STREAM, input=chat(seller))
            assert (await ws.receive())["type"] == "next"
            await change(
                api, update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.clock_timestamp())
            )
            assert await ended_with(ws) == "UNAUTHENTICATED"
            async with asyncio.timeout(30):
                await replica.exchanges[0].gone.wait()

    async def test_database_that_is_away_turns_nobody_out(
        self, api: Api, customer: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = asyncio.Event()

        async def away(*_: Any) -> Any:
            asked.set()
            raise OSError("away")

        async with connected(api, customer.owner) as ws:
            await follow(ws, customer)
            monkeypatch.setattr(watch, "good_credentials", away)
            async with asyncio.timeout(LIMIT_S):
                await asked.wait()
            await asyncio.sleep(0.1)
            monkeypatch.undo()
            await credited(api, customer)
            assert (await ws.receive())["type"] == "next"

    async def test_hundreds_are_checked_in_a_few_statements(self, api: Api, customer: Tenant) -> None:

        async with connected(api, customer.owner) as ws:
            for number in range(60):
                await follow(ws, customer, id_=str(number))
            opened = list(api.services.watch._open)
            with counted(api) as statements:
                await api.services.watch._check(opened)
            assert len(opened) >= 60
            assert len([each for each in statements if "usage_day" not in each]) <= 4
        await until(lambda: not set(opened) & api.services.watch._open)

    async def test_limits_of_a_principal_and_of_the_process(
        self, api: Api, customer: Tenant, stranger: Tenant
    ) -> None:
        async with limited(api, per_principal_max=2, per_process_max=3):
            async with connected(api, customer.owner) as ws, connected(api, stranger.owner) as other:
                for number in range(2):
                    await follow(ws, customer, id_=str(number))
                await ws.subscribe(BALANCE, id_="2", id=customer.id)
                assert await ended_with(ws) == "RATE_LIMITED"
                await follow(other, stranger)
                await other.subscribe(BALANCE, id_="2", id=stranger.id)
                assert await ended_with(other) == "RATE_LIMITED"
            await until(lambda: len(api.services.watch) == 0)
            async with connected(api, customer.owner) as ws:
                await follow(ws, customer)

    async def test_shutdown_tells_clients_to_come_back(self, database_url: str) -> None:
        async with api_server(control_settings(database_url)) as own:
            customer = await own.tenant()
            context = connected(own, customer.owner)
            ws = await context.__aenter__()
            await follow(ws, customer)
        # 1012: the service restarts. graphql-ws clients connect again by themselves.
        assert await ws.closed() == 1012
        await context.__aexit__(None, None, None)


@asynccontextmanager
async def limited(api: Api, **limits: int) -> AsyncIterator[None]:
    """The API's watch with other limits, and nobody in it."""
    services = api.services
    await until(lambda: len(services.watch) == 0)
    before = services.watch._per_principal_max, services.watch._per_process_max
    services.watch._per_principal_max = limits["per_principal_max"]
    services.watch._per_process_max = limits["per_process_max"]
    try:
        yield
    finally:
        services.watch._per_principal_max, services.watch._per_process_max = before
