"""Keeping prompts for a key: who may switch it on, who may read, and that it ends."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from raymart_billing.retention.tasks import PERIODICS
from raymart_core.ids import Prefix, new_id, show
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.retention import writer as writing
from raymart_marketplace.retention.exchange import Ended, Exchange
from raymart_marketplace.retention.writer import RetentionWriter
from support.api_server import Api, Person, Seller, Tenant
from support.completions import STREAM, chat
from support.event_stream import followed
from support.scripted_replica import ScriptedReplica

SET = """
mutation ($key: ID!, $days: Int!) {
  setPromptRetention(input: {apiKeyId: $key, days: $days}) {
    apiKey { promptRetentionDays } userErrors { code field message }
  }
}
"""
READ = """
query ($id: ID!) {
  request(id: $id) { retained { messages { role content name } completion createdAt expiresAt } }
}
"""
WORDS = "the words of a customer"


class Key:
    """A key of a customer with money, and what it asks."""

    def __init__(self, api: Api, customer: Tenant, seller: Seller, key: tuple[Any, str]) -> None:
        self.api, self.customer, self.seller = api, customer, seller
        self.uuid, self.secret = key
        self.id = show(Prefix.API_KEY, self.uuid)

    async def retain(self, days: int) -> dict[str, Any]:
        answer = await self.api(SET, self.customer.owner, key=self.id, days=days)
        return answer.data["setPromptRetention"]

    async def ask(self, *, stream: bool = False) -> str:
        """The id of a request that was answered; what is to be kept of it is stored by then."""
        body = {
            "model": self.seller.model_slug,
            "messages": [{"role": "user", "content": WORDS, "name": "ann"}],
            "max_tokens": 3,
            "stream": stream,
        }
        headers = {"authorization": f"Bearer {self.secret}"}
        reply = await self.api.client.post("/v1/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        await self.api.services.retention.settle()
        return reply.headers["x-request-id"]

    async def read(self, request_id: str, as_: Person | None = None) -> Any:
        answer = await self.api(READ, as_ or self.customer.owner, id=request_id)
        return answer.data["request"]["retained"]

    async def rows(self) -> int:
        async with session_scope(self.api.services.sessions) as session:
            found = await session.scalar(
                text("select count(*) from retained_exchange where api_key_id = :id"), {"id": self.uuid}
            )
        assert found is not None
        return int(found)


@pytest.fixture
async def key(api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica) -> Key:
    await api.credit(customer)
    return Key(api, customer, seller, await api.api_key(customer))


class TestKeeping:
    async def test_nothing_is_kept_until_it_is_switched_on_and_then_what_was_said(self, key: Key) -> None:
        assert await key.read(await key.ask()) is None
        assert (await key.retain(7)) == {"apiKey": {"promptRetentionDays": 7}, "userErrors": []}
        for stream in (False, True):
            kept = await key.read(await key.ask(stream=stream))
            assert kept["messages"] == [{"role": "USER", "content": WORDS, "name": "ann"}]
            assert kept["completion"] == "tok tok tok "
        assert await key.rows() == 2

    async def test_over_graphql_too_also_of_a_reader_who_leaves(self, key: Key) -> None:
        await key.retain(1)
        reader = Person(user_id=new_id(), email="", token=key.secret)
        async with followed(key.api, STREAM, reader, input=chat(key.seller)) as events:
            first = await events.next()
        assert first[1] is not None
        request_id = first[1]["data"]["chatCompletion"]["requestId"]
        async with asyncio.timeout(30):
            while (kept := await key.read(request_id)) is None:
                await asyncio.sleep(0.02)
        assert kept["completion"].startswith("tok ")

    async def test_it_is_encrypted(self, key: Key, owner_url: str) -> None:
        await key.retain(1)
        await key.ask()
        with psycopg.connect(owner_url) as connection:
            row = connection.execute(
                "select sealed from retained_exchange where api_key_id = %s", (key.uuid,)
            ).fetchone()
        assert row is not None
        assert WORDS.encode() not in row[0]
        assert len(row[0]) > len(WORDS)

    @pytest.mark.parametrize("days", [-1, 31])
    async def test_other_times_are_refused(self, key: Key, days: int) -> None:
        [error] = (await key.retain(days))["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "days"])

    async def test_a_revoked_key_may_only_be_switched_off(self, key: Key) -> None:
        await key.retain(3)
        revoke = "mutation ($key: ID!) { revokeApiKey(input: {apiKeyId: $key}) { userErrors { code } } }"
        await key.api(revoke, key.customer.owner, key=key.id)
        assert [error["code"] for error in (await key.retain(5))["userErrors"]] == ["CONFLICT"]
        assert (await key.retain(0))["userErrors"] == []


class TestWhoMayRead:
    async def test_own_people_with_the_permission_and_nobody_of_the_platform(self, key: Key) -> None:
        await key.retain(7)
        request_id = await key.ask()
        for role in (Role.OWNER, Role.ADMIN, Role.DEVELOPER):
            assert await key.read(request_id, key.customer.people[role])
        staff = (await key.api.tenant(OrganizationKind.PLATFORM)).people
        for person in (key.customer.people[Role.VIEWER], key.customer.people[Role.BILLING], *staff.values()):
            answer = await key.api(READ, person, id=request_id)
            assert "completion" not in answer.response.text, person.email

    async def test_developers_may_not_switch_it_on(self, key: Key) -> None:
        answer = await key.api(SET, key.customer.people[Role.DEVELOPER], key=key.id, days=5)
        assert answer.code == "FORBIDDEN"


class TestEnd:
    async def test_switching_off_deletes_at_once(self, key: Key) -> None:
        await key.retain(7)
        request_id = await key.ask()
        await key.retain(0)
        assert await key.rows() == 0
        assert await key.read(request_id) is None
        assert await key.read(await key.ask()) is None

    async def test_what_waits_while_it_is_switched_off_is_not_stored(self, key: Key) -> None:
        """The wish is read again by the statement that stores."""
        ended = Ended(
            request_id=new_id(),
            organization_id=key.customer.organization_id,
            api_key_id=key.uuid,
            exchange=Exchange(messages=(), completion="late"),
        )
        key.api.services.retention.keep(ended)
        await key.api.services.retention.settle()
        assert await key.rows() == 0

    async def test_fewer_days_shorten_what_is_kept_and_more_do_not_lengthen(self, key: Key) -> None:
        await key.retain(7)
        request_id = await key.ask()
        before = (await key.read(request_id))["expiresAt"]
        await key.retain(30)
        assert (await key.read(request_id))["expiresAt"] == before
        await key.retain(2)
        assert (await key.read(request_id))["expiresAt"] < before

    async def test_expired_is_not_shown_and_then_deleted(self, key: Key) -> None:
        await key.retain(1)
        request_id = await key.ask()
        async with session_scope(key.api.services.sessions) as session:
            await session.execute(
                text(
                    "update retained_exchange set created_at = created_at - :by, expires_at = expires_at - :by"
                    " where api_key_id = :id"
                ),
                {"id": key.uuid, "by": timedelta(days=1)},
            )
        assert await key.read(request_id) is None
        assert await key.rows() == 1
        [periodic] = PERIODICS
        await periodic.handle(key.api.services)  # type: ignore[arg-type]  # it has the `sessions` that are asked for
        assert await key.rows() == 0


class TestWriter:
    async def test_too_much_is_dropped_and_counted(self, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writing, "WAITING_CHARACTERS_MAX", 10)
        writer = RetentionWriter(key.api.services.sessions, key.api.services.people.box)
        for completion in ("12345678", "123"):
            writer.keep(
                Ended(
                    request_id=new_id(),
                    organization_id=key.customer.organization_id,
                    api_key_id=key.uuid,
                    exchange=Exchange(messages=(), completion=completion),
                )
            )
        assert writer.dropped == 1
        metrics = (await key.api.client.get("/metrics")).text
        assert "raymart_retained_exchanges_dropped_total" in metrics
