"""`/v1/images/generations` and `/v1/images/edits` over real HTTP."""

import asyncio
import base64
import json
from io import BytesIO

import httpx
import pytest
from PIL import Image

from raymart_core.money import Money
from raymart_core.units import Fault
from raymart_marketplace.objects import open_objects
from support.image_market import FUNDED, PRICES, ImageMarket
from support.object_settings import object_settings
from support.scripted_images import asked, encoded, made, picture, progress
from support.scripted_replica import Exchange

PIXEL_STEPS = 32 * 16 * 4


@pytest.fixture
async def client(market: ImageMarket) -> httpx.AsyncClient:
    return await market.serve_images()


def body(market: ImageMarket, **changes: object) -> dict[str, object]:
    return {"model": market.slug, "prompt": "a red circle", "size": "32x16", "steps": 4, "seed": 5, **changes}


def form(market: ImageMarket, **changes: object) -> dict[str, str]:
    return {name: str(value) for name, value in body(market, **changes).items() if value is not None}


def see_through(width: int, height: int, *, box: tuple[int, int, int, int]) -> bytes:
    """An RGBA picture whose `box` is transparent."""
    image = Image.new("RGBA", (width, height), (10, 20, 30, 255))
    image.paste((0, 0, 0, 0), box)
    return encoded(image)


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


def stream_of(text: str) -> list[tuple[str, dict]]:
    """(name, data) of each server-sent event."""
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


REFUSED = (
    ({"size": "33x16"}, "size"), ({"size": "4096x4096"}, "size"), ({"size": "huge"}, "size"), ({"n": 9}, "n"),
    ({"n": 0}, "n"), ({"steps": 151}, "steps"), ({"seed": -1}, "seed"), ({"quality": "best"}, "quality"),
    ({"response_format": "file"}, "response_format"), ({"output_format": "gif"}, "output_format"),
    ({"background": "transparent"}, "background"), ({"prompt": "x" * 10_001}, "prompt"), ({"promt": "x"}, "promt"),
    ({"n": "two"}, "n"), ({"model": "a@b@c"}, "model"), ({"guidance": 31}, "guidance"), ({"size": "2048x2056"}, "size"),
    ({"scheduler": "x" * 300}, "scheduler"),
)  # fmt: skip


class TestGenerations:
    async def test_pictures_come_inline_with_their_seeds_and_what_they_cost(self, market, client):
        replica = await market.add_painter()
        answer = await client.post(
            "/v1/images/generations", json=body(market, n=2, guidance=3.0, negative_prompt="blue", user="x")
        )
        reply = answer.json()
        assert answer.status_code == 200, reply
        assert [one["seed"] for one in reply["data"]] == [5, 6]
        first = base64.b64decode(reply["data"][0]["b64_json"])
        assert first == picture(32, 16, seed=5, text="a red circle\nSteps: 4, Seed: 5")
        assert "url" not in reply["data"][0]
        assert reply["usage"]["pixel_steps"] == 2 * PIXEL_STEPS
        cost = Money(2 * PIXEL_STEPS + PRICES.request)
        assert reply["usage"]["cost"] == answer.headers["x-raymart-cost"] == f"{cost.decimal():f}"
        assert answer.headers["x-raymart-attempts"] == "1"
        assert (asked(replica.exchanges[0]).guidance, asked(replica.exchanges[0]).negative_prompt) == (
            3.0,
            "blue",
        )

    async def test_a_url_opens_the_picture_until_it_expires(self, market, client):
        await market.add_painter()
        reply = (await client.post("/v1/images/generations", json=body(market, response_format="url"))).json()
        assert "b64_json" not in reply["data"][0]
        fetched = await client.get(reply["data"][0]["url"], headers={"authorization": ""})
        assert fetched.content == picture(32, 16, seed=5, text="a red circle\nSteps: 4, Seed: 5")
        assert fetched.headers["content-type"] == "image/png"

    async def test_what_cannot_be_kept_comes_inline(self, market):
        await market.add_painter()
        client = await market.serve_images(images=market.make_images(objects=open_objects(object_settings())))
        reply = (await client.post("/v1/images/generations", json=body(market, response_format="url"))).json()
        assert reply["data"][0]["b64_json"]

    @pytest.mark.parametrize(("timeout", "status"), [(60, 200), (0.001, 504), (0, 400), (1e9, 400)])
    async def test_the_body_may_say_how_long_the_client_waits(self, market, client, timeout, status):
        replica = await market.add_painter()
        response = await client.post("/v1/images/generations", json=body(market, timeout=timeout))
        assert response.status_code == status, response.text
        if status == 400:
            assert response.json()["error"]["param"] == "timeout"
        assert len(replica.exchanges) == (status == 200)

    async def test_quality_is_a_number_of_steps(self, market, client):
        replica = await market.add_painter()
        for quality in ("low", "hd", None):
            await client.post("/v1/images/generations", json=body(market, steps=None, quality=quality))
        assert [asked(exchange).steps for exchange in replica.exchanges] == [10, 40, 20]

    async def test_a_stream_tells_of_steps_and_pictures_and_ends_with_the_usage(self, market, client):
        await market.add_painter()
        answer = await client.post("/v1/images/generations", json=body(market, n=2, stream=True, steps=2))
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-raymart-model"] == market.slug
        [endpoint] = market.directory.endpoints.values()
        assert answer.headers["x-raymart-provider"] == endpoint.provider_slug
        assert answer.headers["x-raymart-attempts"] == "1"
        assert answer.headers["x-generation-id"] == answer.headers["x-request-id"]
        events = stream_of(answer.text)
        assert [name.removeprefix("image_generation.") for name, _ in events] == [
            "progress", "progress", "completed", "progress", "progress", "completed",
        ]  # fmt: skip
        done = [data for name, data in events if name == "image_generation.completed"]
        assert [(data["type"], data["index"], data["seed"]) for data in done] == [
            ("image_generation.completed", 0, 5),
            ("image_generation.completed", 1, 6),
        ]
        assert "usage" not in done[0]
        assert done[1]["usage"]["pixel_steps"] == PIXEL_STEPS
        assert base64.b64decode(done[0]["b64_json"])[:8] == b"\x89PNG\r\n\x1a\n"

    async def test_a_stream_that_breaks_says_so_and_what_is_billed(self, market, client):
        async def one_and_out(exchange: Exchange) -> None:
            exchange.head()
            made(exchange)
            exchange.cut()

        (await market.add_painter()).script = one_and_out
        events = stream_of(
            (await client.post("/v1/images/generations", json=body(market, n=2, stream=True))).text
        )
        assert [name for name, _ in events] == ["image_generation.completed", "error"]
        assert events[1][1]["error"]["code"] == "upstream_failed"
        assert events[1][1]["usage"]["pixel_steps"] == PIXEL_STEPS

    async def test_a_stream_that_told_of_steps_only_ends_with_an_error_and_costs_nothing(
        self, market, client
    ):
        async def a_step_and_out(exchange: Exchange) -> None:
            exchange.head()
            progress(exchange, 1, 4)
            exchange.cut()

        (await market.add_painter()).script = a_step_and_out
        answer = await client.post("/v1/images/generations", json=body(market, stream=True))
        events = stream_of(answer.text)
        assert [name for name, _ in events] == ["image_generation.progress", "error"]
        assert events[1][1]["error"]["code"] == "upstream_failed"
        assert (events[1][1]["usage"]["cost"], events[1][1]["usage"]["pixel_steps"]) == ("0.000000000", 0)
        await market.wait_for_no_hold()
        assert await market.balance() == (FUNDED, 0)

    async def test_a_stream_without_a_first_event_fails_with_a_status(self, market, client):
        answer = await client.post("/v1/images/generations", json=body(market, stream=True))
        assert answer.status_code == 503

    async def test_a_client_that_leaves_stops_the_engine_and_pays_nothing_for_half_a_picture(
        self, market, client
    ):
        async def endless(exchange: Exchange) -> None:
            exchange.head()
            progress(exchange, 1, 4)
            await exchange.gone.wait()

        replica = await market.add_painter()
        replica.script = endless
        async with client.stream("POST", "/v1/images/generations", json=body(market, stream=True)) as answer:
            await anext(answer.aiter_bytes())
        async with asyncio.timeout(30):
            await replica.exchanges[0].gone.wait()
        await market.wait_for_no_hold()
        assert await market.balance() == (FUNDED, 0)

    async def test_what_cannot_be_served_is_refused_by_its_field(self, market, client):
        replica = await market.add_painter()
        for changes, param in REFUSED:
            answer = await client.post("/v1/images/generations", json=body(market, **changes))
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), changes
        assert replica.exchanges == []
        assert await market.requests() == []

    async def test_what_a_replica_refuses_is_named_as_openai_does(self, market, client):
        async def refuse(exchange: Exchange) -> None:
            exchange.refuse(400, "width=32 is too small for this model", Fault.CUSTOMER, "width")

        (await market.add_painter()).script = refuse
        for stream in (False, True):
            answer = await client.post("/v1/images/generations", json=body(market, stream=stream))
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, "size")
            assert error["message"].endswith("width=32 is too small for this model")

    async def test_a_key_is_needed(self, market, client):
        answer = await client.post("/v1/images/generations", json=body(market), headers={"authorization": ""})
        assert answer.status_code == 401


class TestEdits:
    async def edit(self, client, data, **files: bytes) -> httpx.Response:
        return await client.post(
            "/v1/images/edits", data=data, files={name: (f"{name}.png", each) for name, each in files.items()}
        )

    async def test_a_mask_is_drawn_by_transparency(self, market, client):
        replica = await market.add_painter()
        mask = see_through(64, 32, box=(0, 0, 32, 32))
        answer = await self.edit(client, form(market), image=picture(64, 32), mask=mask)
        assert answer.status_code == 200, answer.text
        request = asked(replica.exchanges[0])
        drawn = opened(request.mask).convert("L")
        assert (drawn.getpixel((5, 5)), drawn.getpixel((60, 5))) == (255, 0)
        assert (request.strength, request.image) == (1.0, picture(64, 32))
        assert (request.width, request.height) == (32, 16)

    async def test_a_picture_that_is_transparent_itself_needs_no_mask(self, market, client):
        replica = await market.add_painter()
        await self.edit(client, form(market), image=see_through(64, 32, box=(0, 0, 8, 8)))
        assert opened(asked(replica.exchanges[0]).mask).getextrema() == (0, 255)

    async def test_a_mask_without_transparency_is_white_where_it_is_repainted(self, market, client):
        replica = await market.add_painter()
        mask = encoded(Image.new("L", (64, 32), 255))
        await self.edit(client, form(market), image=picture(64, 32), mask=mask)
        assert asked(replica.exchanges[0]).mask == mask

    async def test_without_a_mask_the_whole_picture_changes_a_part_of_the_way(self, market, client):
        replica = await market.add_painter()
        answer = await self.edit(client, form(market, strength=0.5), image=picture(64, 32))
        assert asked(replica.exchanges[0]).strength == 0.5
        assert asked(replica.exchanges[0]).mask is None
        assert answer.json()["usage"]["pixel_steps"] == PIXEL_STEPS // 2

    async def test_the_size_is_the_pictures_own_unless_another_is_asked_for(self, market, client):
        replica = await market.add_painter()
        await self.edit(client, form(market, size=None), image=picture(45, 30))
        assert (asked(replica.exchanges[0]).width, asked(replica.exchanges[0]).height) == (40, 24)

    async def test_a_form_may_say_how_long_the_client_waits(self, market, client):
        replica = await market.add_painter()
        for timeout, status in (("60", 200), ("0.001", 504), ("0", 400), ("nan", 400)):
            answer = await self.edit(client, form(market, timeout=timeout), image=picture(64, 32))
            assert answer.status_code == status, answer.text
        assert len(replica.exchanges) == 1

    async def test_an_edit_streams_too(self, market, client):
        await market.add_painter()
        answer = await self.edit(client, form(market, stream="true"), image=picture(64, 32))
        assert {name for name, _ in stream_of(answer.text)} == {"image_edit.progress", "image_edit.completed"}

    async def test_forms_that_do_not_fit_are_refused(self, market, client):
        await market.add_painter()
        image, small = picture(64, 32), picture(8, 8)
        for data, files, param in (
            (form(market), {}, "image"),
            (form(market), {"image": b"GIF89a" + bytes(20)}, "image"),
            (form(market), {"image": image, "mask": small}, "mask"),
            (form(market), {"image": image[:-40]}, "image"),
            ({"model": market.slug}, {"image": image}, "prompt"),
            ({**form(market), "colour": "red"}, {"image": image}, "colour"),
            (form(market, size="12x16"), {"image": image}, "size"),
            (form(market, n=9), {"image": image}, "n"),
        ):
            answer = await self.edit(client, data, **(files or {"other": small}))
            assert answer.status_code == 400, (data, answer.text)
            assert answer.json()["error"]["param"] in {param, "other"}, answer.text
        answer = await client.post("/v1/images/edits", json=body(market))
        assert answer.status_code == 400
        assert "multipart/form-data" in answer.json()["error"]["message"]

    async def test_a_body_over_the_limit_is_refused(self, market):
        client = await market.serve_images(body_bytes_max=1_000)
        answer = await self.edit(client, form(market), image=picture(64, 32) + bytes(2_000))
        assert answer.status_code == 413

    async def test_a_bomb_is_refused_by_what_it_claims(self, market, client):
        replica = await market.add_painter()
        bomb = encoded(Image.new("1", (9_000, 9_000)))
        assert len(bomb) < 100_000
        for files in ({"image": bomb}, {"image": picture(64, 32), "mask": bomb}):
            answer = await self.edit(client, form(market), **files)
            assert answer.status_code == 400
            assert "9000x9000" in answer.json()["error"]["message"]
        assert replica.exchanges == []
