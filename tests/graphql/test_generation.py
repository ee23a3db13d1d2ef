"""`GET /v1/generation`: what became of a request, for who asked it and nobody else."""

import asyncio
from uuid import UUID

import pytest
from msgspec.structs import replace
from tests.graphql.test_keys import bearer, chat, make

from raymart_billing.records import copy_requests
from raymart_core.ids import Prefix, new_id, show
from raymart_core.money import Money
from raymart_core.units import Fault
from raymart_marketplace.gateway.generations.names import generation_of
from support.api_server import ASK_COMPLETION, ASK_PROMPT, Api, Seller, Tenant
from support.books import continued, finished
from support.scripted_replica import ScriptedReplica

PATH = "/v1/generation"


async def asked(api: Api, secret: str, seller: Seller, **changes):
    """A chat completion by the key; its id and the reply."""
    reply = await api.client.post("/v1/chat/completions", json=chat(seller) | changes, headers=bearer(secret))
    assert reply.status_code == 200
    return reply.headers["x-request-id"], reply


async def read(api: Api, secret: str, name: str):
    return await api.client.get(PATH, params={"id": name}, headers=bearer(secret))


class TestNames:
    def test_each_name_of_an_answer_is_taken(self):
        request_id = new_id()
        for name in ("req_{}", "chatcmpl-{}", "cmpl-{}", "{}", "chatcmpl-{}-1"):
            assert generation_of(name.format(request_id.hex)) == request_id

    @pytest.mark.parametrize("name", ["", "req_", "../../etc", "req_" + "0" * 31, "req_" + "0" * 33, "\0"])
    async def test_another_is_malformed(self, api: Api, customer: Tenant, name):
        made = await make(api, customer)
        assert (await read(api, made.secret, name)).status_code == 400

    @pytest.mark.parametrize("query", ["", "id=", "id=a&id=b", "&".join(["a=b"] * 300), "%00=%ff"])
    async def test_so_is_another_query(self, api: Api, customer: Tenant, query):
        made = await make(api, customer)
        answer = await api.client.get(f"{PATH}?{query}", headers=bearer(made.secret))
        assert answer.status_code == 400


class TestGeneration:
    async def test_it_is_there_as_soon_as_the_answer_is_whole(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ):
        await api.credit(customer)
        made = await make(api, customer)
        name, reply = await asked(api, made.secret, seller)
        body = reply.json()
        answer = await read(api, made.secret, name)
        assert answer.status_code == 200
        data = answer.json()["data"]
        tokens = body["usage"]["completion_tokens"]
        assert (data["tokens_prompt"], data["tokens_completion"]) == (3, tokens)
        assert (data["native_tokens_prompt"], data["native_tokens_cached"]) == (3, 0)
        cost = (3 * ASK_PROMPT + tokens * ASK_COMPLETION) / 10**9
        assert data["total_cost"] == data["usage"] == pytest.approx(cost)
        assert data["total_cost"] == float(body["usage"]["cost"])
        assert (data["provider_name"], data["providers"]) == (seller.provider_slug, [seller.provider_slug])
        assert (data["model"], data["finish_reason"]) == (
            seller.model_slug,
            body["choices"][0]["finish_reason"],
        )
        assert (data["streamed"], data["cancelled"], data["state"]) == (False, False, "completed")
        [attempt] = data["attempts"]
        assert (attempt["outcome"], attempt["fault"], attempt["cost"]) == ("delivered", "none", data["usage"])
        assert [each["status"] for each in data["provider_responses"]] == [200]
        # By the id of the body too, which is all that many clients keep.
        assert (await read(api, made.secret, body["id"])).json() == answer.json()

    async def test_each_provider_that_delivered_is_named_with_its_share(
        self, api: Api, customer: Tenant, seller: Seller
    ):
        made = await make(api, customer)
        request = finished_by(customer, seller, made)
        async with api.services.pool.connection() as connection:
            await copy_requests(connection, [request], may_exist=False)
        data = (await read(api, made.secret, show(Prefix.REQUEST, request.id))).json()["data"]
        assert data["tokens_completion"] == 27
        assert data["usage"] == pytest.approx(155e-9)
        assert data["providers"][0] == seller.provider_slug
        assert len(data["providers"]) == 2
        shares = [(each["outcome"], each["fault"], each["cost"]) for each in data["attempts"]]
        assert shares == [
            ("failed", "provider", 0),
            ("failed", "network", pytest.approx(120e-9)),
            ("delivered", "none", pytest.approx(35e-9)),
        ]
        assert [each["status"] for each in data["provider_responses"]] == [502, 502, 200]


class TestVisibility:
    async def test_another_organization_finds_nothing(
        self, api: Api, customer: Tenant, stranger: Tenant, seller: Seller, replica: ScriptedReplica
    ):
        await api.credit(customer)
        made = await make(api, customer)
        name, _ = await asked(api, made.secret, seller)
        theirs = await make(api, stranger, scopes=["INFERENCE", "USAGE_READ"])
        missing = await read(api, theirs.secret, name)
        assert missing.status_code == 404
        assert missing.json()["error"]["param"] == "id"

    async def test_another_key_needs_the_scope_to_read_usage(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ):
        await api.credit(customer)
        mine, other = await make(api, customer), await make(api, customer)
        reader = await make(api, customer, scopes=["USAGE_READ"])
        name, _ = await asked(api, mine.secret, seller)
        statuses = [(await read(api, made.secret, name)).status_code for made in (mine, other, reader)]
        assert statuses == [200, 404, 200]

    async def test_a_person_sees_what_they_asked_for_themselves(
        self, api: Api, customer: Tenant, seller: Seller, replica: ScriptedReplica
    ):
        await api.credit(customer)
        made = await make(api, customer)
        token = customer.owner.token
        by_key, _ = await asked(api, made.secret, seller)
        by_person, _ = await asked(api, token, seller)
        assert (await read(api, token, by_key)).status_code == 404
        assert (await read(api, token, by_person)).status_code == 200

    async def test_one_that_nobody_made_is_not_waited_for_once_it_is_old(self, api: Api, customer: Tenant):
        made = await make(api, customer)
        old = show(Prefix.REQUEST, id_of_2020())
        async with asyncio.timeout(20):
            assert (await read(api, made.secret, old)).status_code == 404

    async def test_one_that_is_recorded_a_moment_later_is_waited_for(
        self, api: Api, customer: Tenant, seller: Seller
    ):
        made = await make(api, customer)
        request = finished_by(customer, seller, made)
        looking = asyncio.create_task(read(api, made.secret, show(Prefix.REQUEST, request.id)))
        await asyncio.sleep(0.05)
        async with api.services.pool.connection() as connection:
            await copy_requests(connection, [request], may_exist=False)
        assert (await looking).status_code == 200


def finished_by(customer: Tenant, seller: Seller, made):
    """A request of the key that two providers delivered, after a first had failed."""
    request = finished(
        customer.organization_id, seller.provider_id, tokens_prompt=10, tokens_completion=20, delivered=True,
        project_id=customer.project_id, api_key_id=made.uuid,
    )  # fmt: skip
    request = continued(request, 7)
    [attempt] = request.attempts
    later = request.more[0]
    assert request.charge == Money(155)
    return replace(
        request,
        attempts=(
            replace(attempt, id=new_id(), outcome="failed", fault=Fault.PROVIDER, tokens_delivered=0),
            replace(attempt, outcome="failed", fault=Fault.NETWORK),
            replace(
                attempt,
                id=new_id(),
                endpoint_id=later.endpoint_id,
                provider_id=later.provider_id,
                tokens_delivered=7,
            ),
        ),
    )


def id_of_2020():
    return UUID(int=(1_577_836_800_000 << 80) | (7 << 76) | (2 << 62) | 5)
