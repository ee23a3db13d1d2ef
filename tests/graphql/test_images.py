"""Pictures over GraphQL: the same pipeline, money and refusals as REST, with signed URLs and progress."""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from raymart_core.ids import Prefix, show
from raymart_core.units import Fault
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.metering.models import RequestState, Surface
from support.api_server import Api, Seller, Tenant, api_server, control_settings
from support.completions import balance, chat, request_row, rows_of, until_settled
from support.graphql_socket import Socket, connected
from support.painting import painting
from support.scripted_images import asked, picture
from support.scripted_replica import ScriptedReplica

FIELDS = """
requestId model pixelSteps attempts createdAt cost { amount currency } provider { slug }
images { index seed width height steps format parameters url urlExpiresAt base64 }
"""
CREATE = f"""
mutation ($input: CreateImageInput!) {{ createImage(input: $input) {{
  generation {{ {FIELDS} }} userErrors {{ code field message reasons }} }} }}
"""
FOLLOW = f"""
subscription ($input: ImageGenerationInput!) {{ imageGeneration(input: $input) {{
  step of generation {{ {FIELDS} }} userErrors {{ code message }} }} }}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    database_url: str, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Api]:
    """A running control plane that keeps files."""
    folder = tmp_path_factory.mktemp("objects")
    settings = control_settings(database_url, redis_url=redis_server.url, objects_url=f"file://{folder}")
    async with api_server(settings) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def painter(api: Api) -> Seller:
    """A provider of an image model, off line."""
    return await api.seller(modality=Modality.IMAGE)


@pytest_asyncio.fixture(loop_scope="session")
async def replica(api: Api, painter: Seller) -> AsyncIterator[ScriptedReplica]:
    """The painter's replica, on line; it makes what is asked for."""
    async with ScriptedReplica(painting(painter)) as replica:
        await api.serve(painter, replica)
        yield replica
        api.retire(painter)


def wish(seller: Seller, **changes: Any) -> dict[str, Any]:
    return {
        "model": seller.model_slug, "prompt": "a red circle", "width": 32, "height": 16, "steps": 4, "seed": "5",
    } | changes  # fmt: skip


def cost(pixel_steps: int) -> Decimal:
    return Decimal(pixel_steps).scaleb(-9)


async def create(api: Api, tenant: Tenant, given: dict[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = (await api(CREATE, tenant.owner, input=given)).data["createImage"]
    return payload


async def updates(ws: Socket) -> list[dict[str, Any]]:
    """Everything up to `complete`."""
    found = []
    while (message := await ws.receive())["type"] != "complete":
        assert "errors" not in message["payload"], message
        found.append(message["payload"]["data"]["imageGeneration"])
    return found


class TestMutation:
    async def test_pictures_come_with_seed_parameters_url_and_cost(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        payload = await create(api, customer, wish(painter, count=2))
        assert payload["userErrors"] == []
        generation = payload["generation"]
        assert generation["pixelSteps"] == str(2 * 32 * 16 * 4)
        assert Decimal(generation["cost"]["amount"]) == cost(4_096)
        assert (generation["model"], generation["attempts"]) == (painter.model_slug, 1)
        assert generation["provider"] == {"slug": painter.provider_slug}
        for index, image in enumerate(generation["images"]):
            content = b64decode(image["base64"])
            with Image.open(BytesIO(content)) as opened:
                assert (opened.size, opened.info["parameters"]) == ((32, 16), image["parameters"])
            assert (image["index"], image["seed"], image["steps"]) == (index, str(5 + index), 4)
            assert (image["width"], image["height"], image["format"]) == (32, 16, "PNG")
            # The public address is that of a proxy in front; here there is none.
            path = image["url"].removeprefix(api.services.settings.public_url)
            fetched = await api.client.get(path)
            assert (fetched.status_code, fetched.content) == (200, content)
            assert fetched.headers["content-type"] == "image/png"
            assert image["urlExpiresAt"] > generation["createdAt"]
        assert (await until_settled(api, customer)).posted.decimal() == 1 - cost(4_096)

    async def test_a_url_opens_its_own_picture_only(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        first, second = [
            (await create(api, customer, wish(painter)))["generation"]["images"][0]["url"] for _ in range(2)
        ]
        swapped = second.partition("?")[0] + "?" + first.partition("?")[2]
        refused = await api.client.get(swapped.removeprefix(api.services.settings.public_url))
        assert refused.status_code == 403

    async def test_request_and_bill_can_be_read_back(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        made_ = (await create(api, customer, wish(painter)))["generation"]
        row = await request_row(api, made_["requestId"])
        assert (row.surface, row.state, row.project_id) == (
            Surface.GRAPHQL, RequestState.COMPLETED, customer.project_id,
        )  # fmt: skip
        query = """query ($id: ID!) { node(id: $id) { ... on Request { usageRecord {
          amount { amount } providerAmount { amount } feeAmount { amount }
          usage { tokensTotal } lines { unit quantity price { amount } amount { amount } } } } } }"""
        node = (await api(query, customer.owner, id=made_["requestId"])).data["node"]
        bill = node["usageRecord"]
        assert bill["lines"] == [
            {
                "unit": "IMAGE_MEGAPIXEL_STEP",
                "quantity": "2048",
                "price": {"amount": "0.001000000"},
                "amount": {"amount": "0.000002048"},
            }
        ]
        assert bill["usage"]["tokensTotal"] == 0
        amounts = [Decimal(bill[name]["amount"]) for name in ("amount", "providerAmount", "feeAmount")]
        assert amounts[0] == cost(2_048) == amounts[1] + amounts[2]

    async def test_everything_that_was_asked_for_reaches_the_replica(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        image, mask = picture(24, 16, seed=1), picture(24, 16, seed=2)
        steering = picture(8, 8, seed=3, kind="webp")
        given = wish(
            painter, image=b64encode(image).decode(), mask="data:image/png;base64," + b64encode(mask).decode(),
            outpaint={"left": 8}, strength=0.5, negativePrompt="a square", guidance=2.5, scheduler="Euler a",
            vae="other", format="WEBP", loras=[{"name": "fine", "weight": 0.5}],
            control=[{"name": "edges", "image": b64encode(steering).decode(), "weight": 0.25, "end": 0.5}],
        )  # fmt: skip
        payload = await create(api, customer, given)
        assert payload["userErrors"] == []
        sent = asked(replica.exchanges[0])
        assert (sent.image, sent.mask, sent.strength) == (image, mask, 0.5)
        assert sent.outpaint is not None
        assert (sent.outpaint.left, sent.outpaint.right) == (8, 0)
        assert (sent.negative_prompt, sent.guidance, sent.scheduler) == ("a square", 2.5, "Euler a")
        assert [(lora.name, lora.weight) for lora in sent.loras] == [("fine", 0.5)]
        [control] = sent.control
        assert (control.name, control.image, control.weight) == ("edges", steering, 0.25)
        assert (control.start, control.end, sent.vae) == (0.0, 0.5, "other")
        # Half of the four steps were run.
        assert payload["generation"]["pixelSteps"] == str(32 * 16 * 2)
        [shown] = payload["generation"]["images"]
        assert (shown["format"], b64decode(shown["base64"])[8:12]) == ("WEBP", b"WEBP")

    async def test_without_a_seed_one_is_chosen_and_told(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        generation = (await create(api, customer, wish(painter, seed=None)))["generation"]
        assert generation["images"][0]["seed"] == str(asked(replica.exchanges[0]).seed)

    async def test_the_named_project_pays_and_another_tenants_is_forbidden(
        self, api: Api, customer: Tenant, stranger: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        project = show(Prefix.PROJECT, customer.project_id)
        generation = (await create(api, customer, wish(painter, projectId=project)))["generation"]
        assert (await request_row(api, generation["requestId"])).project_id == customer.project_id
        refused = await api(CREATE, stranger.owner, input=wish(painter, projectId=project))
        assert refused.code == "FORBIDDEN"

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"image": "no base64!"}, "image"),
            ({"image": b64encode(b"no picture").decode()}, "image"),
            ({"width": 20}, "width"),
            ({"height": 2_056}, "height"),
            ({"steps": 151}, "steps"),
            ({"count": 9}, "count"),
            ({"seed": "-1"}, "seed"),
            ({"guidance": 31}, "guidance"),
            ({"strength": 0}, "strength"),
            ({"mask": b64encode(picture(8, 8)).decode()}, "image"),
            ({"control": [{"name": "edges", "image": "%"}]}, "control.0.image"),
        ],
    )
    async def test_what_cannot_be_made_is_refused_by_its_field(
        self, api: Api, painter: Seller, replica: ScriptedReplica, wrong: dict[str, Any], field: str
    ) -> None:
        customer = await api.tenant()
        await api.credit(customer)
        payload = await create(api, customer, wish(painter, **wrong))
        assert payload["generation"] is None
        [error] = payload["userErrors"]
        assert error["code"] == "INVALID"
        assert error["field"] == ["input", *field.split(".")]
        assert replica.exchanges == []
        assert await rows_of(api, customer) == []

    async def test_a_chat_model_makes_no_pictures(
        self, api: Api, customer: Tenant, painter: Seller, seller: Seller
    ) -> None:
        await api.credit(customer)
        async with ScriptedReplica() as talker:
            await api.serve(seller, talker)
            [error] = (await create(api, customer, wish(seller)))["userErrors"]
            api.retire(seller)
        assert (error["code"], error["field"]) == ("INVALID", ["input", "model"])
        assert talker.exchanges == []

    async def test_without_funds_no_engine_is_touched_and_no_row_written(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        [error] = (await create(api, customer, wish(painter)))["userErrors"]
        assert error["code"] == "INSUFFICIENT_FUNDS"
        assert replica.exchanges == []
        assert await rows_of(api, customer) == []

    async def test_a_failure_costs_nothing_and_says_whose_it_was(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        replica.script = painting(
            painter, then=lambda exchange: exchange.fail("out of memory", Fault.PROVIDER)
        )
        [error] = (await create(api, customer, wish(painter)))["userErrors"]
        assert error["code"] == "UPSTREAM_FAILED"
        assert (await until_settled(api, customer)).posted.decimal() == 1
        [row] = await rows_of(api, customer)
        assert row.state is RequestState.FAILED


class TestSubscription:
    async def test_every_step_is_told_then_the_picture(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(FOLLOW, input=wish(painter))
            *steps, last = await updates(ws)
        assert [(update["step"], update["of"]) for update in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert all(update["generation"] is None and not update["userErrors"] for update in steps)
        assert (last["step"], last["of"]) == (4, 4)
        [image] = last["generation"]["images"]
        with Image.open(BytesIO(b64decode(image["base64"]))) as opened:
            assert opened.size == (32, 16)
        assert last["generation"]["provider"] == {"slug": painter.provider_slug}
        assert Decimal(last["generation"]["cost"]["amount"]) == cost(2_048)
        assert (await until_settled(api, customer)).posted.decimal() == 1 - cost(2_048)

    async def test_a_refusal_is_one_update(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(FOLLOW, input=wish(painter))
            [update] = await updates(ws)
        assert update["generation"] is None
        assert [error["code"] for error in update["userErrors"]] == ["INSUFFICIENT_FUNDS"]

    async def test_closing_it_stops_the_engine_and_costs_nothing(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        replica.script = painting(painter, then=lambda exchange: None)
        async with connected(api, customer.owner) as ws:
            await ws.subscribe(FOLLOW, input=wish(painter))
            assert (await ws.receive())["payload"]["data"]["imageGeneration"]["step"] == 1
            await ws.send({"id": "1", "type": "complete"})
            async with asyncio.timeout(30):
                await replica.exchanges[0].gone.wait()
        assert (await until_settled(api, customer)).posted.decimal() == 1
        [row] = await rows_of(api, customer)
        assert row.state is RequestState.CANCELLED


class TestOtherSurfaces:
    async def test_an_image_model_holds_no_conversation(
        self, api: Api, customer: Tenant, painter: Seller, replica: ScriptedReplica
    ) -> None:
        await api.credit(customer)
        query = """mutation ($input: CreateChatCompletionInput!) { createChatCompletion(input: $input) {
          completion { text } userErrors { code field } } }"""
        data = (await api(query, customer.owner, input=chat(painter))).data["createChatCompletion"]
        assert data["completion"] is None
        assert data["userErrors"] == [{"code": "INVALID", "field": ["input", "model"]}]
        assert replica.exchanges == []
        assert (await balance(api, customer)).posted.decimal() == 1

    async def test_it_is_listed_with_its_price_of_megapixel_steps(
        self, api: Api, painter: Seller, replica: ScriptedReplica
    ) -> None:
        query = """query ($slug: String!) { model(slug: $slug) { modality lowestUnitPrices { unit price { amount } }
          liveEndpoints { nodes { unitPrices { unit price { amount } } } } } }"""
        step = {"unit": "IMAGE_MEGAPIXEL_STEP", "price": {"amount": "0.001000000"}}
        model = (await api(query, slug=painter.model_slug)).data["model"]
        assert model["modality"] == "IMAGE"
        assert step in model["lowestUnitPrices"]
        assert step in model["liveEndpoints"]["nodes"][0]["unitPrices"]
