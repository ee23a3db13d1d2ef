"""The image engine on the bundled model: what comes out shows what was asked, and always with the same bytes."""

import http.client
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from raymart_core.units import Fault
from raymart_core.wire.image import (
    IMAGE_PATH,
    SCHEDULERS,
    ImageFinish,
    ImageMade,
    ImageProgress,
    decode_image_event,
)
from raymart_core.wire.replica import decode_error_body, encode
from raymart_serve.engines.diffusers import DiffusersEngine
from raymart_serve.engines.protocol import RequestRefused
from support.image_engine import REVISION, TREE_SHA256, made, request, shows, spec

in_module_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[DiffusersEngine]:
    """Loaded once: importing torch takes seconds."""
    engine = DiffusersEngine(spec())
    await engine.load(lambda _: None)
    await engine.warm_up()
    yield engine
    await engine.close()


@in_module_loop
class TestTextToImage:
    @pytest.mark.parametrize("colour", ["red", "green", "blue"])
    @pytest.mark.parametrize("background", ["white", "black"])
    async def test_picture_shows_what_was_asked(
        self, engine: DiffusersEngine, colour: str, background: str
    ) -> None:
        [picture] = await made(engine, request(f"a {colour} circle on a {background} background"))
        assert (picture.width, picture.height, picture.steps, picture.format) == (64, 64, 20, "png")
        assert shows(picture.data, colour=colour, background=background)

    async def test_size_is_what_was_asked(self, engine: DiffusersEngine) -> None:
        [picture] = await made(engine, request(width=40, height=24, steps=2))
        assert Image.open(BytesIO(picture.data)).size == (40, 24) == (picture.width, picture.height)

    async def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(
        self, engine: DiffusersEngine
    ) -> None:
        first, other, second = [
            (await made(engine, request(seed=seed, steps=4)))[0].data for seed in (7, 8, 7)
        ]
        assert first == second != other

    async def test_negative_prompt_and_guidance_change_the_picture(self, engine: DiffusersEngine) -> None:
        asked = [
            request(steps=4),
            request(steps=4, negative_prompt="a circle"),
            request(steps=4, guidance=5.0),
        ]
        assert len({(await made(engine, one))[0].data for one in asked}) == 3


@in_module_loop
class TestBatch:
    async def test_each_picture_equals_the_one_made_alone_with_its_seed(
        self, engine: DiffusersEngine
    ) -> None:
        batch = await made(engine, request(seed=40, count=3, steps=4))
        assert [(picture.index, picture.seed) for picture in batch] == [(0, 40), (1, 41), (2, 42)]
        alone = [(await made(engine, request(seed=40 + index, steps=4)))[0] for index in range(3)]
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
    @pytest.mark.parametrize("name", SCHEDULERS)
    async def test_each_draws_the_asked_picture(self, engine: DiffusersEngine, name: str) -> None:
        [picture] = await made(engine, request(scheduler=name, steps=8))
        assert f"Sampler: {name}," in picture.parameters
        assert shows(picture.data, colour="red", background="black")

    async def test_the_models_own_is_named(self, engine: DiffusersEngine) -> None:
        own, named = [(await made(engine, request(scheduler=name, steps=2)))[0] for name in (None, "DDIM")]
        assert own == named

    async def test_unknown_one_is_refused_with_what_there_is(self, engine: DiffusersEngine) -> None:
        with pytest.raises(RequestRefused, match="no scheduler 'Best'; it has DDIM,") as caught:
            await made(engine, request(scheduler="Best"))
        assert caught.value.param == "scheduler"


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
