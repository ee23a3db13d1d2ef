"""The image engine on the bundled model: what comes out shows what was asked, and always with the same bytes."""

import asyncio
import contextlib
import http.client
import json
import resource
import shutil
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from raymart_core.units import Fault
from raymart_core.wire.image import (
    IMAGE_PATH,
    SCHEDULERS,
    Control,
    ImageFinish,
    ImageMade,
    ImageProgress,
    Lora,
    Padding,
    decode_image_event,
)
from raymart_core.wire.replica import decode_error_body, encode
from raymart_serve.engines.diffusers import DiffusersEngine
from raymart_serve.engines.protocol import EngineBusy, EngineFailed, RequestRefused
from support.image_engine import (
    REVISION,
    TREE_SHA256,
    made,
    pixels,
    png,
    request,
    shows,
    spec,
    tiny_sdxl,
    with_adapters,
)

in_module_loop = pytest.mark.asyncio(loop_scope="module")

BLUE = "a blue circle on a black background"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DiffusersEngine]:
    """Loaded once: importing torch takes seconds."""
    folder = await asyncio.to_thread(with_adapters, tmp_path_factory.mktemp("revision") / "demo-image")
    engine = DiffusersEngine(spec(folder, waiting_max=1))
    await engine.load(lambda _: None)
    await engine.warm_up()
    yield engine
    await engine.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def red(engine: DiffusersEngine) -> bytes:
    """A red circle on black, 64x64."""
    [picture] = await made(engine, request(steps=8))
    return picture.data


RIGHT_HALF = png(np.repeat([[0] * 32 + [255] * 32], 64, axis=0))


@in_module_loop
class TestTextToImage:
    @pytest.mark.parametrize(
        ("colour", "background"), [("red", "white"), ("green", "black"), ("blue", "grey")]
    )
    async def test_picture_shows_what_was_asked(
        self, engine: DiffusersEngine, colour: str, background: str
    ) -> None:
        [picture] = await made(engine, request(f"a {colour} circle on a {background} background", steps=8))
        assert (picture.width, picture.height, picture.steps, picture.format) == (64, 64, 8, "png")
        assert shows(picture.data, colour=colour, background=background)

    async def test_size_is_what_was_asked(self, engine: DiffusersEngine) -> None:
        [picture] = await made(engine, request(width=40, height=24, steps=2))
        assert Image.open(BytesIO(picture.data)).size == (40, 24) == (picture.width, picture.height)

    async def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(
        self, engine: DiffusersEngine
    ) -> None:
        first, other, second = [
            (await made(engine, request(seed=seed, steps=2)))[0].data for seed in (7, 8, 7)
        ]
        assert first == second != other

    async def test_negative_prompt_and_guidance_change_the_picture(self, engine: DiffusersEngine) -> None:
        asked = [
            request(steps=2),
            request(steps=2, negative_prompt="a circle"),
            request(steps=2, guidance=5.0),
        ]
        assert len({(await made(engine, one))[0].data for one in asked}) == 3

    async def test_how_it_was_made_is_inside_the_file(self, engine: DiffusersEngine) -> None:
        [picture] = await made(engine, request(steps=2, seed=5))
        assert Image.open(BytesIO(picture.data)).text["parameters"] == picture.parameters
        assert "Steps: 2, Sampler: DDIM, CFG scale: 2, Seed: 5, Size: 64x64" in picture.parameters


@in_module_loop
class TestBatch:
    async def test_each_picture_equals_the_one_made_alone_with_its_seed(
        self, engine: DiffusersEngine
    ) -> None:
        batch = await made(engine, request(seed=40, count=3, steps=2))
        assert [(picture.index, picture.seed) for picture in batch] == [(0, 40), (1, 41), (2, 42)]
        alone = [(await made(engine, request(seed=40 + index, steps=2)))[0] for index in range(3)]
        assert [picture.data for picture in batch] == [picture.data for picture in alone]

    async def test_seed_wraps_around(self, engine: DiffusersEngine) -> None:
        batch = await made(engine, request(seed=2**32 - 1, count=2, steps=1))
        assert [picture.seed for picture in batch] == [2**32 - 1, 0]

    async def test_picture_comes_before_the_next_is_begun(self, engine: DiffusersEngine) -> None:
        """What broke off later has delivered what was whole."""
        order = []
        async with engine.make_images(request(count=2, steps=2)) as events:
            async for event in events:
                order.append("made" if isinstance(event, ImageMade) else event.step)
        assert order == [1, 2, "made", 3, 4, "made"]


@in_module_loop
class TestScheduler:
    @pytest.mark.parametrize("name", ["Euler a", "DPM++ 2M", "Heun", "PLMS"])
    async def test_it_draws_the_asked_picture(self, engine: DiffusersEngine, name: str) -> None:
        """One of each kind: ancestral, multi-step, second order, one with a step of its own."""
        [picture] = await made(engine, request(scheduler=name, steps=6))
        assert f"Sampler: {name}," in picture.parameters
        assert shows(picture.data, colour="red", background="black")

    @pytest.mark.slow
    @pytest.mark.parametrize("name", SCHEDULERS)
    async def test_every_one_draws_the_asked_picture(self, engine: DiffusersEngine, name: str) -> None:
        [picture] = await made(engine, request(scheduler=name, steps=20))
        assert shows(picture.data, colour="red", background="black")

    async def test_the_models_own_is_named(self, engine: DiffusersEngine) -> None:
        own, named = [(await made(engine, request(scheduler=name, steps=2)))[0] for name in (None, "DDIM")]
        assert own == named

    async def test_unknown_one_is_refused_with_what_there_is(self, engine: DiffusersEngine) -> None:
        with pytest.raises(RequestRefused, match="no scheduler 'Best'; it has DDIM,") as caught:
            await made(engine, request(scheduler="Best"))
        assert caught.value.param == "scheduler"


@in_module_loop
class TestImageToImage:
    async def test_it_keeps_the_shape_and_takes_the_asked_colour(
        self, engine: DiffusersEngine, red: bytes
    ) -> None:
        [picture] = await made(engine, request(BLUE, image=red, steps=10, strength=0.8))
        assert picture.steps == 8
        assert shows(picture.data, colour="blue", background="black")
        assert "Denoising strength: 0.8" in picture.parameters

    async def test_little_strength_leaves_the_picture_nearly_as_it_is(
        self, engine: DiffusersEngine, red: bytes
    ) -> None:
        [picture] = await made(engine, request(image=red, strength=0.1))
        assert picture.steps == 2
        assert np.abs(pixels(picture.data) - pixels(red)).mean() < 8

    async def test_picture_of_another_size_and_kind_is_fitted(self, engine: DiffusersEngine) -> None:
        file = BytesIO()
        Image.new("L", (50, 91), 128).save(file, "JPEG")
        [picture] = await made(engine, request(image=file.getvalue(), width=32, height=40, steps=2))
        assert Image.open(BytesIO(picture.data)).size == (32, 40)

    async def test_strength_that_leaves_no_step_is_refused(self, engine: DiffusersEngine, red: bytes) -> None:
        with pytest.raises(RequestRefused, match=r"2 steps at strength 0\.3 leave none") as caught:
            await made(engine, request(image=red, steps=2, strength=0.3))
        assert caught.value.param == "strength"

    async def test_what_is_no_picture_is_refused(self, engine: DiffusersEngine) -> None:
        with pytest.raises(RequestRefused, match="image is no PNG, JPEG or WebP") as caught:
            await made(engine, request(image=b"GIF89a" + bytes(100)))
        assert caught.value.param == "image"

    async def test_broken_picture_is_refused_and_gives_its_turn_back(
        self, engine: DiffusersEngine, red: bytes
    ) -> None:
        with pytest.raises(RequestRefused, match="image is broken"):
            await made(engine, request(image=red[:-300]))
        assert engine.stats().running == 0


@in_module_loop
class TestInpainting:
    async def test_only_white_is_repainted(self, engine: DiffusersEngine, red: bytes) -> None:
        [picture] = await made(engine, request(BLUE, image=red, mask=RIGHT_HALF, strength=1.0, steps=8))
        before, after = pixels(red), pixels(picture.data)
        assert (after[:, :32] == before[:, :32]).all()
        blue_minus_red = (after - before)[24:40, 36:44].mean((0, 1))
        assert blue_minus_red[2] - blue_minus_red[0] > 100

    async def test_mask_of_another_size_is_refused(self, engine: DiffusersEngine, red: bytes) -> None:
        with pytest.raises(RequestRefused, match="the mask is 8x8 and the image 64x64") as caught:
            await made(engine, request(image=red, mask=png(np.zeros((8, 8)))))
        assert caught.value.param == "mask"


@in_module_loop
class TestOutpainting:
    async def test_input_stays_and_the_border_is_painted(self, engine: DiffusersEngine, red: bytes) -> None:
        asked = request(
            image=red,
            outpaint=Padding(left=8, right=16, bottom=8),
            width=88,
            height=72,
            strength=1.0,
            steps=8,
        )
        [picture] = await made(engine, asked)
        found = pixels(picture.data)
        assert found.shape == (72, 88, 3)
        assert (found[:64, 8:72] == pixels(red)).all()
        border = np.concatenate(
            [found[:, :8].reshape(-1, 3), found[:, 72:].reshape(-1, 3), found[64:].reshape(-1, 3)]
        )
        assert border.std() > 0
        assert border.mean() < 64, "the background goes on black"

    async def test_size_that_does_not_add_up_is_refused(self, engine: DiffusersEngine, red: bytes) -> None:
        with pytest.raises(RequestRefused, match="with its padding is 72x64, asked for is 80x64") as caught:
            await made(engine, request(image=red, outpaint=Padding(left=8), width=80))
        assert caught.value.param == "outpaint"


@in_module_loop
class TestAdapters:
    async def test_loras_change_the_picture_and_leave_no_trace(self, engine: DiffusersEngine) -> None:
        """Each by its weight, several together, in both common namings; then the plain picture is what it was."""
        plain = (await made(engine, request(steps=2)))[0].data
        sets = [
            (Lora("style"),),
            (Lora("style", 0.5),),
            (Lora("v1.5-soft"),),
            (Lora("style"), Lora("v1.5-soft")),
        ]
        changed = [(await made(engine, request(steps=2, loras=one)))[0].data for one in sets]
        assert len({plain, *changed}) == 5
        assert (await made(engine, request(steps=2)))[0].data == plain
        again = [(await made(engine, request(steps=2, loras=one)))[0].data for one in sets]
        assert again == changed

    async def test_lora_of_weight_nought_changes_nothing(self, engine: DiffusersEngine) -> None:
        plain, without = [
            (await made(engine, request(steps=2, loras=loras)))[0].data
            for loras in ((), (Lora("style", 0.0),))
        ]
        assert np.abs(pixels(plain) - pixels(without)).max() <= 1

    async def test_lora_named_by_kohya_does_the_same(self, engine: DiffusersEngine) -> None:
        ours, kohyas = [
            pixels((await made(engine, request(steps=2, loras=(Lora(name),))))[0].data)
            for name in ("style", "kohya")
        ]
        assert np.abs(ours - kohyas).max() <= 1

    async def test_vae_is_used_for_its_request_only(self, engine: DiffusersEngine) -> None:
        plain, bright, again = [
            (await made(engine, request(steps=2, vae=vae)))[0] for vae in (None, "bright", None)
        ]
        assert pixels(bright.data).mean() > pixels(plain.data).mean() + 30
        assert "VAE: bright" in bright.parameters
        assert again.data == plain.data

    @pytest.mark.parametrize(
        "task", ["text", *(pytest.param(task, marks=pytest.mark.slow) for task in ("image", "inpaint"))]
    )
    async def test_controlnet_takes_part_by_its_weight(
        self, engine: DiffusersEngine, red: bytes, task: str
    ) -> None:
        inputs = {
            "text": {},
            "image": {"image": red},
            "inpaint": {"image": red, "mask": RIGHT_HALF, "strength": 1.0},
        }[task]
        asked = [
            request(steps=4, **inputs),
            *[request(steps=4, **inputs, control=(Control("edges", red, weight),)) for weight in (0.0, 1.0)],
        ]
        without, nought, full = [pixels((await made(engine, one))[0].data) for one in asked]
        assert np.abs(without - nought).max() <= 1
        assert np.abs(without - full).max() > 10

    @pytest.mark.slow
    async def test_two_controlnets_and_their_times(self, engine: DiffusersEngine, red: bytes) -> None:
        both = (Control("edges", red), Control("edges", RIGHT_HALF, 0.5))
        early = (Control("edges", red, start=0.0, end=0.5),)
        asked = [both, both[:1], early]
        assert len({(await made(engine, request(steps=4, control=one)))[0].data for one in asked}) == 3

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"loras": (Lora("gone"),)}, "loras"),
            ({"loras": (Lora("../../vae/diffusion_pytorch_model"),)}, "loras"),
            ({"vae": "gone"}, "vae"),
            ({"control": (Control("gone", b""),)}, "control"),
        ],
    )
    async def test_unknown_one_is_refused_with_what_there_is(
        self, engine: DiffusersEngine, changes: dict[str, Any], param: str
    ) -> None:
        with pytest.raises(RequestRefused, match=f"this model has no {param}") as caught:
            await made(engine, request(**changes))
        assert caught.value.param == param


@in_module_loop
class TestLeaving:
    async def test_leaving_stops_at_the_next_step_and_frees_the_turn(
        self, engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is no failure, after which adapters would be let go."""
        failures: list[object] = []
        monkeypatch.setattr(engine, "_failed", lambda *failure: failures.append(failure))
        aborted = engine.stats().requests_aborted_total
        async with engine.make_images(request(steps=150, count=8)) as events:
            await anext(events)
        await asyncio.wait_for(engine._gate.idle(), 5)  # 1,200 steps would take far longer
        assert engine.stats().requests_aborted_total == aborted + 1
        assert failures == []

    async def test_what_waits_runs_next_and_one_more_is_refused(self, engine: DiffusersEngine) -> None:
        async with engine.make_images(request(steps=150)) as events:
            await anext(events)
            waiting = asyncio.create_task(made(engine, request(steps=1)))
            while engine.stats().waiting == 0:
                await asyncio.sleep(0)
            with pytest.raises(EngineBusy):
                await made(engine, request(steps=1))
        assert len(await waiting) == 1

    async def test_cancelled_while_waiting_leaves_no_place_taken(self, engine: DiffusersEngine) -> None:
        async with engine.make_images(request(steps=150)) as events:
            await anext(events)
            waiting = asyncio.create_task(made(engine, request(steps=1)))
            while engine.stats().waiting == 0:
                await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
        await asyncio.wait_for(engine._gate.idle(), 5)
        assert engine.stats().waiting == 0


@in_module_loop
class TestFaults:
    async def test_memory_that_runs_out_fails_the_request_and_not_the_engine(
        self, engine: DiffusersEngine
    ) -> None:
        """Really runs out: the process may not map 64 MiB more."""
        plain = (await made(engine, request(steps=1)))[0].data
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 64 * 2**20, before[1]))
        try:
            with pytest.raises(
                EngineFailed, match="memory is too small for a picture of 2048x2048; ask for a smaller one"
            ):
                await made(engine, request(steps=1, width=2048, height=2048))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
        assert (await engine.health()).state == "ready"
        assert (await made(engine, request(steps=1)))[0].data == plain

    async def test_lost_accelerator_makes_the_engine_unhealthy(self) -> None:
        """Nothing in this process will run on it again; Serve starts another replica."""
        from raymart_serve.engines.diffusers.model import DeviceLost

        broken = DiffusersEngine(spec())
        await broken.load(lambda _: None)
        broken._failed(broken._loaded()[0], DeviceLost("the accelerator failed"))
        health = await broken.health()
        await broken.close()
        assert (health.state, health.reason) == ("failing", "the accelerator failed")

    @pytest.mark.parametrize(
        ("raised", "kind", "says"),
        [
            (
                "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')",
                "MemoryTooSmall",
                "memory is too small",
            ),
            (
                "RuntimeError('CUDA error: an illegal memory access was encountered')",
                "DeviceLost",
                "accelerator failed",
            ),
            ("ValueError('/secret/path is bad')", "EngineFailed", "^drawing failed: ValueError$"),
        ],
    )
    async def test_what_torch_raises_becomes_ours(self, raised: str, kind: str, says: str) -> None:
        import torch

        from raymart_serve.engines.diffusers import model

        with pytest.raises(EngineFailed, match=says) as caught, model._Faults("drawing"):
            raise eval(raised, {"torch": torch})
        assert type(caught.value).__name__ == kind

    async def test_picture_without_numbers_is_no_picture(self) -> None:
        from raymart_serve.engines.diffusers.model import _picture

        with pytest.raises(EngineFailed, match="overflows"):
            _picture(np.full((8, 8, 3), np.nan))

    async def test_parameters_that_are_not_known_are_refused(self) -> None:
        for parameters in ({"pooling": "mean"}, {"dtype": "int3"}):
            with pytest.raises(EngineFailed, match="known is 'dtype'"):
                await DiffusersEngine(spec(parameters=parameters)).load(lambda _: None)

    async def test_stalled_picture_makes_the_engine_unhealthy(self, engine: DiffusersEngine) -> None:
        async with engine.make_images(request(steps=150)) as events:
            await anext(events)
            [running] = engine._open
            running.engine_since = -1e6
            assert (await engine.health()).state == "failing"


@in_module_loop
class TestLoading:
    @pytest.mark.parametrize(
        ("path", "changes"),
        [
            ("unet/config.json", {"block_out_channels": [48_000, 96_000]}),
            ("vae/config.json", {"block_out_channels": [16_000, 32_000, 32_000]}),
            ("text_encoder/config.json", {"num_hidden_layers": 3}),
            ("text_encoder/config.json", {"vocab_size": 1_000_000}),
        ],
    )
    async def test_configuration_of_more_than_the_weights_hold_is_refused(
        self, tmp_path: Path, path: str, changes: dict[str, Any]
    ) -> None:
        """Else a small revision takes all memory, or a part of it is random numbers."""
        folder = Path(shutil.copytree(spec().path, tmp_path / "model"))
        document = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps(document | changes))
        engine = DiffusersEngine(spec(folder))
        with pytest.raises(EngineFailed, match=r"describes \d+ numbers and its weights hold \d+"):
            await engine.load(lambda _: None)
        assert (await engine.health()).state == "loading"
        await engine.close()

    async def test_weights_of_the_half_precision_variant_give_the_same_picture(
        self, engine: DiffusersEngine, tmp_path: Path
    ) -> None:
        """Many publishers have only these; a part may have both."""
        folder = Path(shutil.copytree(spec().path, tmp_path / "model"))
        for part in ("unet", "text_encoder"):
            for file in (folder / part).glob("*.safetensors"):
                file.rename(file.with_suffix(".fp16.safetensors"))
        other = DiffusersEngine(spec(folder))
        await other.load(lambda _: None)
        plain = [(await made(one, request(steps=1)))[0].data for one in (engine, other)]
        await other.close()
        assert plain[0] == plain[1]

    async def test_what_waits_when_it_closes_is_told(self, tmp_path: Path) -> None:
        other = DiffusersEngine(spec(step_delay_s=30.0))
        await other.load(lambda _: None)
        tasks = [asyncio.create_task(made(other, request(steps=9))) for _ in range(2)]
        while other.stats().waiting == 0:
            await asyncio.sleep(0)
        await asyncio.wait_for(other.close(), 10)  # the pause between steps holds up nobody
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in ended] == [EngineFailed, EngineFailed]

    @pytest.mark.slow
    async def test_adapters_that_do_not_fit_fail_their_request_only(
        self, engine: DiffusersEngine, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(spec().path, tmp_path / "model"))
        (folder / "loras").mkdir()
        shutil.copy(folder / "vae/diffusion_pytorch_model.safetensors", folder / "loras/no-lora.safetensors")
        shutil.copytree(folder / "unet", folder / "controlnets/no-control")
        shutil.copytree(folder / "unet", folder / "vaes/no-vae")
        other = DiffusersEngine(spec(folder))
        await other.load(lambda _: None)
        for changes in (
            {"loras": (Lora("no-lora"),)},
            {"control": (Control("no-control", RIGHT_HALF),)},
            {"vae": "no-vae"},
        ):
            with pytest.raises(EngineFailed):
                await made(other, request(steps=1, **changes))
        plain = [(await made(one, request(steps=1)))[0].data for one in (engine, other)]
        await other.close()
        assert plain[0] == plain[1]

    @pytest.mark.slow
    async def test_sdxl_runs_every_task(self, tmp_path: Path, red: bytes) -> None:
        """The family with two text encoders; its weights here are noise."""
        engine = DiffusersEngine(spec(await asyncio.to_thread(tiny_sdxl, tmp_path / "xl")))
        await engine.load(lambda _: None)
        inputs = ({}, {"image": red}, {"image": red, "mask": RIGHT_HALF, "strength": 1.0})
        found = [(await made(engine, request(steps=2, **one)))[0] for one in inputs * 2]
        await engine.close()
        assert [picture.data for picture in found[:3]] == [picture.data for picture in found[3:]]
        assert len({picture.data for picture in found}) == 3
        assert (pixels(found[2].data)[:, :32] == pixels(red)[:, :32]).all()


class TestReplica:
    """The same through `POST /v1/image` of a real replica."""

    @pytest.fixture
    def replica(self, run_replica: Callable[..., Any]) -> Any:
        return run_replica(
            model="raymart/demo-image",
            revision=REVISION,
            engine="diffusers",
            source="bundled:demo-image",
            sha256=TREE_SHA256,
            context_length=24,
            slots=1,
        )

    def test_progress_pictures_and_finish_arrive(self, replica: Any) -> None:
        status, body = post(replica, encode(request(count=2, steps=3)))
        events = [decode_image_event(line) for line in body.splitlines()]
        assert status == 200
        assert [type(event) for event in events] == [
            *[ImageProgress] * 3,
            ImageMade,
            *[ImageProgress] * 3,
            ImageMade,
            ImageFinish,
        ]
        finish = events[-1]
        assert finish == ImageFinish(
            pixel_steps=2 * 3 * 64 * 64, revision=REVISION, engine=replica.replica.engine.label
        )

    def test_wrong_request_is_refused_with_the_field(self, replica: Any) -> None:
        status, body = post(replica, encode(request(scheduler="Best")))
        refusal = decode_error_body(body)
        assert (status, refusal.fault, refusal.param) == (400, Fault.CUSTOMER, "scheduler")

    def test_text_is_refused_by_an_engine_of_pictures(self, replica: Any) -> None:
        status, body = post(replica, b'{"prompt":"x","sampling":{"max_tokens":1}}', path="/v1/generate")
        assert (status, decode_error_body(body).param) == (400, "model")


def post(replica: Any, body: bytes, *, path: str = IMAGE_PATH) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(replica.address, timeout=60)
    try:
        connection.request("POST", path, body=body, headers={"Authorization": f"Bearer {replica.secret}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
