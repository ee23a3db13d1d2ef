"""AUTOMATIC1111's routes over real HTTP."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from io import BytesIO

import httpx
import pytest
from PIL import Image

from raymart_core.wire.image import Lora
from raymart_core.wire.manifest import Manifest, ManifestFile
from raymart_marketplace.catalog.models import Modality, ModelRevision, RevisionState
from raymart_marketplace.catalog.service import model_by_slug
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.shared_state import Redis, make_redis
from support.gateway_market import GatewayMarket, gateway_market
from support.image_market import ImageMarket
from support.market import make_customer
from support.scripted_images import asked, encoded, finish, made, picture, progress
from support.scripted_replica import Exchange


@pytest.fixture
async def redis(redis_server) -> AsyncIterator[Redis]:
    redis = make_redis(redis_server.url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def client(market: ImageMarket, redis: Redis) -> httpx.AsyncClient:
    return await market.serve_images(redis=redis)


def body(market: ImageMarket, **changes: object) -> dict[str, object]:
    options = {"sd_model_checkpoint": market.slug}
    size = {"width": 32, "height": 16, "steps": 4}
    return {"prompt": "a red circle", "seed": 5, "override_settings": options, **size, **changes}


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


async def txt2img(client: httpx.AsyncClient, market: ImageMarket, **changes: object) -> httpx.Response:
    return await client.post("/sdapi/v1/txt2img", json=body(market, **changes))


async def img2img(client: httpx.AsyncClient, market: ImageMarket, **changes: object) -> httpx.Response:
    init = {"init_images": [text_of(picture(64, 32))]}
    return await client.post("/sdapi/v1/img2img", json=body(market, **{**init, **changes}))


async def revise(market: GatewayMarket, *paths: str) -> str:
    """Publish another revision of the market's model, of files of these paths; returns its digest."""
    files = tuple(ManifestFile(path=path, bytes=1, sha256="0" * 64) for path in sorted(paths))
    manifest = Manifest(
        engine="diffusers", files=files, quantization="fp32", context_length=24, capabilities=("image",),
        parameters={"slug": market.slug},
    )  # fmt: skip
    async with session_scope(market.sessions) as session:
        session.add(
            ModelRevision(
                model_id=(await model_by_slug(session, market.slug)).id, digest=manifest.digest(), engine="diffusers",
                quantization="fp32", source=f"registry:{manifest.digest()}", sha256=manifest.digest()[7:],
                context_length=24, capabilities=["image"], state=RevisionState.PUBLISHED, manifest=manifest.canonical(),
            )
        )  # fmt: skip
    return manifest.digest()


REFUSED = (
            ({"sampler_name": "Magic"}, "sampler_name"), ({"sampler_name": "DDIM", "scheduler": "karras"}, "sampler_name"),
            ({"enable_hr": True}, "enable_hr"), ({"script_name": "xyz"}, "script_name"), ({"steps": 151}, "steps"),
            ({"alwayson_scripts": {"ADetailer": {"args": []}}}, "alwayson_scripts"), ({"width": 30}, "width"),
            ({"batch_size": 3, "n_iter": 3}, "count"), ({"batch_size": -1, "n_iter": -1}, "batch_size"),
            ({"override_settings": {"sd_model_checkpoint": "nope"}}, "sd_model_checkpoint"),
            ({"alwayson_scripts": {"ControlNet": {"args": [{"module": "canny", "model": "x", "image": "AA=="}]}}}, "alwayson_scripts"),
            ({"prompt": "x <lora:a:1.2.3>"}, "prompt"),
)  # fmt: skip
UNWORKABLE = (
            ({"init_images": []}, "init_images"), ({"init_images": ["!!"]}, "init_images"),
            ({"init_images": [text_of(b"GIF89a")]}, "init_images"), ({"init_images": [text_of(picture(8, 8)[:-30])]}, "init_images"),
            ({"mask": "%%"}, "mask"), ({"mask_blur": 100, "mask": text_of(picture(8, 8))}, "mask_blur"), ({"resize_mode": 7}, "resize_mode"),
            ({"denoising_strength": 2}, "strength"), ({"width": 100_000}, "width"),
)  # fmt: skip


class TestTextToImage:
    async def test_pictures_come_with_all_that_clients_read_of_them(self, market, client):
        replica = await market.add_painter()
        answer = await txt2img(
            client, market, batch_size=2, n_iter=2, negative_prompt="blue", cfg_scale=4, sampler_name="Euler a",
            unheard_of=1, enable_hr=False, script_args=[], s_churn=0,
        )  # fmt: skip
        reply = answer.json()
        assert answer.status_code == 200, reply
        assert len(reply["images"]) == 4
        assert base64.b64decode(reply["images"][0]) == picture(
            32, 16, seed=5, text="a red circle\nSteps: 4, Seed: 5"
        )
        info = json.loads(reply["info"])
        assert (info["seed"], info["all_seeds"]) == (5, [5, 6, 7, 8])
        assert (info["width"], info["height"], info["steps"], info["cfg_scale"]) == (32, 16, 4, 4)
        assert info["sampler_name"] == "Euler a"
        assert info["infotexts"][0] == "a red circle\nSteps: 4, Seed: 5"
        assert info["raymart"]["pixel_steps"] == 4 * 32 * 16 * 4
        [endpoint] = market.directory.endpoints.values()
        assert answer.headers["x-raymart-provider"] == endpoint.provider_slug
        assert answer.headers["x-raymart-model"] == market.slug
        assert answer.headers["x-raymart-attempts"] == "1"
        assert answer.headers["x-raymart-cost"] == info["raymart"]["cost"]
        assert answer.headers["x-generation-id"] == answer.headers["x-request-id"]
        assert reply["parameters"]["prompt"] == "a red circle"
        request = asked(replica.exchanges[0])
        assert (request.count, request.scheduler, request.negative_prompt) == (4, "Euler a", "blue")

    async def test_a_seed_below_zero_is_chosen_and_told(self, market, client):
        await market.add_painter()
        seeds = [
            json.loads((await txt2img(client, market, seed=-1)).json()["info"])["seed"] for _ in range(2)
        ]
        assert seeds[0] != seeds[1]

    async def test_loras_of_the_prompt_and_controls_reach_the_engine(self, market, client):
        replica = await market.add_painter()
        unit = {"model": "edges [abc]", "image": text_of(picture(8, 8)), "weight": 0.5, "guidance_end": 0.8}
        await txt2img(
            client, market, prompt="a cat <lora:ink:0.7> <lora:soft>",
            alwayson_scripts={"ControlNet": {"args": [unit, {"enabled": False}]}},
            override_settings={"sd_model_checkpoint": market.slug, "sd_vae": "sharp"},
        )  # fmt: skip
        request = asked(replica.exchanges[0])
        assert (request.prompt, request.loras) == ("a cat", (Lora("ink", 0.7), Lora("soft", 1.0)))
        assert [(one.name, one.weight, one.end) for one in request.control] == [("edges", 0.5, 0.8)]
        assert request.control[0].image == picture(8, 8)
        assert request.vae == "sharp"

    async def test_samplers_go_by_their_names(self, market, client):
        replica = await market.add_painter()
        for changes, name in (
            ({"sampler_name": "DPM++ 2M", "scheduler": "karras"}, "DPM++ 2M Karras"),
            ({"sampler_index": "euler"}, "Euler"),
            ({"sampler_name": "DPM++ 2M Karras", "scheduler": "Karras"}, "DPM++ 2M Karras"),
            ({"sampler_name": "DDIM", "scheduler": "Automatic"}, "DDIM"),
            ({"sampler_name": None}, None),
        ):
            await txt2img(client, market, **changes)
            assert asked(replica.exchanges[-1]).scheduler == name

    async def test_what_is_not_served_is_refused_by_its_field(self, market, client):
        replica = await market.add_painter()
        for changes, param in REFUSED:
            answer = await txt2img(client, market, **changes)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), changes
            assert answer.json()["detail"] == answer.json()["error"]["message"]
        assert replica.exchanges == []

    async def test_nobody_who_serves_is_a_503_with_a_detail(self, market, client):
        answer = await txt2img(client, market)
        assert answer.status_code == 503
        assert "no provider serves" in answer.json()["detail"]


class TestImageToImage:
    async def test_a_picture_is_brought_to_size_and_given_up_in_part(self, market, client):
        replica = await market.add_painter()
        answer = await img2img(client, market, denoising_strength=0.5)
        request = asked(replica.exchanges[0])
        assert opened(request.image).size == (32, 16)
        assert (request.strength, request.mask) == (0.5, None)
        reply = answer.json()
        assert reply["parameters"]["init_images"] is None
        assert json.loads(reply["info"])["denoising_strength"] == 0.5

    async def test_a_mask_is_brought_to_size_inverted_and_blurred(self, market, client):
        replica = await market.add_painter()
        mask = Image.new("L", (64, 32), 0)
        mask.paste(255, (32, 0, 64, 32))
        for changes, left, right in (
            ({"mask_blur": 0}, 0, 255),
            ({"mask_blur": 0, "inpainting_mask_invert": 1}, 255, 0),
        ):
            answer = await img2img(client, market, mask=text_of(encoded(mask)), **changes)
            assert answer.status_code == 200, answer.text
            drawn = opened(asked(replica.exchanges[-1]).mask)
            assert (drawn.size, drawn.getpixel((2, 8)), drawn.getpixel((29, 8))) == ((32, 16), left, right)
        await img2img(client, market, mask=text_of(encoded(mask)), mask_blur=4)
        assert 60 < opened(asked(replica.exchanges[-1]).mask).getpixel((15, 8)) < 200

    async def test_a_mask_may_be_drawn_by_transparency(self, market, client):
        replica = await market.add_painter()
        mask = Image.new("RGBA", (64, 32), (0, 0, 0, 0))
        mask.paste((0, 0, 0, 255), (32, 0, 64, 32))
        await img2img(client, market, mask="data:image/png;base64," + text_of(encoded(mask)), mask_blur=0)
        drawn = opened(asked(replica.exchanges[0]).mask)
        assert (drawn.getpixel((2, 8)), drawn.getpixel((29, 8))) == (0, 255)

    async def test_a_picture_of_another_shape_is_stretched_cropped_or_filled(self, market, client):
        replica = await market.add_painter()
        wide = Image.new("RGB", (96, 16), (0, 255, 0))
        wide.paste((255, 0, 0), (0, 0, 16, 16))
        for mode, corner in ((0, (255, 0, 0)), (1, (0, 255, 0)), (2, None), (3, (255, 0, 0))):
            answer = await img2img(
                client, market, init_images=[text_of(encoded(wide))], resize_mode=mode, denoising_strength=1
            )
            assert answer.status_code == 200, answer.text
            made_of = opened(asked(replica.exchanges[-1]).image)
            assert made_of.size == (32, 16)
            assert corner in {None, made_of.getpixel((0, 8))}, mode

    async def test_what_cannot_be_worked_on_is_refused(self, market, client):
        replica = await market.add_painter()
        for changes, param in UNWORKABLE:
            answer = await img2img(client, market, **changes)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), changes
        assert replica.exchanges == []


class TestAccess:
    async def test_basic_takes_any_user_with_the_key_as_password(self, market, client):
        basic = base64.b64encode(f"anybody:{market.key}".encode()).decode()
        answer = await client.get("/sdapi/v1/samplers", headers={"authorization": f"Basic {basic}"})
        assert answer.status_code == 200

    async def test_without_a_key_nothing_is_told(self, client):
        for credential in ("", "Basic", "Basic !!!", "Basic YW55Ym9keQ==", "Bearer rm_live_x"):
            for method, path in (
                ("GET", "samplers"),
                ("GET", "progress"),
                ("POST", "txt2img"),
                ("GET", "options"),
            ):
                answer = await client.request(
                    method, f"/sdapi/v1/{path}", headers={"authorization": credential}
                )
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Basic")
                assert answer.json()["detail"]

    async def test_what_is_not_served_is_not_found(self, client):
        assert (await client.post("/sdapi/v1/extra-single-image")).status_code == 404
        assert (await client.post("/sdapi/v1/samplers")).status_code == 405


class TestLists:
    async def test_models_have_titles_and_hashes(self, market, client):
        await market.add_painter()
        listed = (await client.get("/sdapi/v1/sd-models")).json()
        own = next(model for model in listed if model["model_name"] == market.slug)
        assert own["title"] == f"{market.slug} [{'ab' * 5}]"
        assert (own["hash"], own["sha256"]) == ("ab" * 5, "ab" * 32)

    async def test_models_of_others_are_in_no_list(self, market, client, sessions, pool):
        await revise(market, "loras/ink.safetensors")
        async with session_scope(sessions) as session:
            owner = (await make_customer(session)).organization_id
        async with gateway_market(sessions, pool, modality=Modality.IMAGE, model_owner=owner) as neighbour:
            await revise(neighbour, "loras/secret.safetensors", "vaes/secret/config.json")
            assert market.slug in (await client.get("/sdapi/v1/sd-models")).text
            for path in ("sd-models", "loras", "sd-vae"):
                told = (await client.get(f"/sdapi/v1/{path}")).text
                assert neighbour.slug not in told
                assert "secret" not in told
            answer = await txt2img(client, market, override_settings={"sd_model_checkpoint": neighbour.slug})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "sd_model_checkpoint")

    async def test_loras_and_vaes_are_those_of_the_revisions(self, market, client):
        digest = await revise(
            market, "loras/ink.safetensors", "loras/soft-v1.5.safetensors", "loras/deep/x.safetensors",
            "loras/readme.txt", "unet/model.safetensors", "vaes/bright/config.json",
            "vaes/bright/diffusion_pytorch_model.safetensors", "vaes/stray.safetensors",
        )  # fmt: skip
        newer = await revise(market, "loras/newer.safetensors")
        listed = (await client.get("/sdapi/v1/loras")).json()
        own = [each for each in listed if market.slug in each["metadata"]["models"]]
        assert [each["name"] for each in own] == ["ink", "newer", "soft-v1.5"]
        assert (own[0]["alias"], own[0]["path"]) == ("ink", "loras/ink.safetensors")
        vaes = (await client.get("/sdapi/v1/sd-vae")).json()
        assert {"model_name": "bright", "filename": "vaes/bright"} in vaes
        assert "stray.safetensors" not in str(vaes)
        await market.add_painter(revision_digest=newer)
        assert digest != newer
        listed = (await client.get("/sdapi/v1/loras")).json()
        assert [each["name"] for each in listed if market.slug in each["metadata"]["models"]] == ["newer"]

    async def test_lists_are_there_for_clients_that_ask(self, client):
        names = [each["name"] for each in (await client.get("/sdapi/v1/samplers")).json()]
        assert {"Euler a", "DDIM", "DPM++ 2M"} <= set(names)
        for path in (
            "upscalers",
            "loras",
            "sd-vae",
            "scripts",
            "embeddings",
            "schedulers",
            "cmd-flags",
            "hypernetworks",
        ):
            assert (await client.get(f"/sdapi/v1/{path}")).status_code == 200

    async def test_a_chosen_model_is_kept_for_the_key(self, market, client):
        replica = await market.add_painter()
        title = f"{market.slug} [{'ab' * 5}]"
        assert (
            await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": title, "other": 1})
        ).status_code == 200
        assert (await client.get("/sdapi/v1/options")).json()["sd_model_checkpoint"] == title
        assert (await txt2img(client, market, override_settings=None)).status_code == 200
        assert len(replica.exchanges) == 1
        assert (
            await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "nope"})
        ).status_code == 400
        assert (await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": 5})).status_code == 400

    async def test_without_redis_nothing_can_be_chosen_and_pictures_are_made_all_the_same(self, market):
        await market.add_painter()
        client = await market.serve_images()
        answer = await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": market.slug})
        assert answer.status_code == 503
        assert (await txt2img(client, market)).status_code == 200


class TestProgress:
    async def test_a_job_is_followed_and_interrupted_at_its_next_step(self, market, client):
        stepped, go_on = asyncio.Event(), asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            exchange.head()
            progress(exchange, 1, 4)
            stepped.set()
            await go_on.wait()
            progress(exchange, 2, 4)
            await exchange.gone.wait()

        replica = await market.add_painter()
        replica.script = slow
        idle = (await client.get("/sdapi/v1/progress")).json()
        assert (idle["progress"], idle["state"]["job_count"]) == (0, 0)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(txt2img(client, market))
            await stepped.wait()
            async with asyncio.timeout(30):
                while not (shown := (await client.get("/sdapi/v1/progress?skip_current_image=true")).json())[
                    "progress"
                ]:
                    pass
            assert shown["progress"] == 0.25
            assert (shown["state"]["sampling_step"], shown["state"]["sampling_steps"]) == (1, 4)
            assert (await client.post("/sdapi/v1/interrupt")).status_code == 200
            go_on.set()
        assert running.result().json()["images"] == []
        await replica.exchanges[0].gone.wait()
        await market.wait_for_no_hold()
        assert await market.pixel_steps() == []
        assert (await client.get("/sdapi/v1/progress")).json()["state"]["job_count"] == 0

    async def test_another_key_sees_and_stops_nothing_of_it(self, market, client, redis):
        release = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            exchange.head()
            progress(exchange, 1, 4)
            await release.wait()
            made(exchange)
            finish(exchange)

        replica = await market.add_painter()
        replica.script = slow
        other = market.other_key
        async with asyncio.TaskGroup() as group:
            running = group.create_task(txt2img(client, market))
            async with asyncio.timeout(30):
                while not (await client.get("/sdapi/v1/progress")).json()["progress"]:
                    pass
            headers = {"authorization": f"Bearer {await other()}"}
            assert (await client.get("/sdapi/v1/progress", headers=headers)).json()["progress"] == 0
            await client.post("/sdapi/v1/interrupt", headers=headers)
            release.set()
        assert len(running.result().json()["images"]) == 1
