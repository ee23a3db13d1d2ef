"""Checks of engines that make pictures."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from raymart_core.units import Fault
from raymart_core.wire.image import (
    IMAGE_PATH,
    Control,
    ImageFinish,
    ImageMade,
    ImageProgress,
    ImageRequest,
    Lora,
    decode_image_event,
)
from raymart_core.wire.replica import NDJSON, encode
from raymart_serve.conformance.checks import Nonconformance, check, require
from raymart_serve.conformance.http_client import exchanged, opened
from raymart_serve.conformance.port import REVISION, port_of, refusal
from raymart_serve.conformance.rig import Rig
from raymart_serve.engines.protocol import (
    EngineBusy,
    EngineError,
    EngineFailed,
    MakesImages,
    RequestRefused,
)

_MAGIC = {"png": (0, b"\x89PNG\r\n\x1a\n"), "jpeg": (0, b"\xff\xd8\xff"), "webp": (8, b"WEBP")}
_LOOP_HELD_S_MAX = 0.5
_LONG = 150
"""More steps than an engine makes before it notices that nobody waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A request that ended well."""

    events: tuple[ImageProgress | ImageMade, ...]

    @property
    def pictures(self) -> tuple[ImageMade, ...]:
        """Without the progress."""
        return tuple(event for event in self.events if isinstance(event, ImageMade))


@check
async def progress_then_each_picture(rig: Rig) -> None:
    """Every step is told once, a picture comes right after its last step, and the event loop stays free meanwhile."""
    made = await _made(rig, _asked(rig, count=2, steps=3))
    order = [event.step if isinstance(event, ImageProgress) else "picture" for event in made.events]
    require(order == [1, 2, 3, "picture", 4, 5, 6, "picture"], f"2 pictures of 3 steps came as {order}")
    held_s = rig.load_lag_s
    require(held_s < _LOOP_HELD_S_MAX, f"load and warm_up held the event loop for {held_s:.1f} s")


@check
async def a_picture_has_the_asked_size_and_format(rig: Rig) -> None:
    """Width, height and format are as asked, in what is said and in the file; how it was made is inside."""
    side = rig.subject.picture_side
    wide = (await _made(rig, _asked(rig, width=side, height=side // 2))).pictures[0]
    require(
        _png_size(wide.data) == (side, side // 2), f"asked {side}x{side // 2}, made {_png_size(wide.data)}"
    )
    require(wide.parameters.encode("latin-1") in wide.data, "the PNG does not hold its parameters")
    for form in ("jpeg", "webp"):
        await _made(rig, _asked(rig, format=form))


@check
async def a_seed_gives_the_same_picture(rig: Rig) -> None:
    """The same request gives the same bytes, whatever ran in between; another seed gives others."""
    first = await _one(rig, _asked(rig, seed=3))
    other = await _one(rig, _asked(rig, seed=4))
    again = await _one(rig, _asked(rig, seed=3))
    require(first.data == again.data, "the same seed gave other bytes")
    require(first.data != other.data, "another seed gave the same bytes")
    require("Seed: 3," in first.parameters, f"the parameters do not tell the seed: {first.parameters!r}")


@check
async def a_batch_is_its_pictures_alone(rig: Rig) -> None:
    """The picture at index k of a batch has seed + k, modulo 2**32, and the bytes that it has when made alone."""
    seed = 2**32 - 2
    batch = (await _made(rig, _asked(rig, seed=seed, count=3))).pictures
    seeds = [(picture.index, picture.seed) for picture in batch]
    require(seeds == [(0, seed), (1, seed + 1), (2, 0)], f"seed {seed} gave indexes and seeds {seeds}")
    for picture in batch:
        alone = await _one(rig, _asked(rig, seed=picture.seed))
        require(alone.data == picture.data, f"picture {picture.index} has other bytes than alone")


@check
async def an_input_picture_is_worked_from(rig: Rig) -> None:
    """From an input picture only the last steps are run, and what is not a picture is refused by its field."""
    start = await _one(rig, _asked(rig, seed=1))
    changed = await _one(rig, _asked(rig, image=start.data, strength=0.5, steps=8))
    require(1 <= changed.steps <= 5, f"8 steps at strength 0.5 ran {changed.steps}")
    require(changed.data != start.data, "the input picture came back unchanged")
    for param, image, mask in (
        ("image", b"nothing", None),
        ("image", start.data[: len(start.data) // 2], None),
        ("mask", start.data, b"nothing"),
    ):
        await _require_refused(rig, _asked(rig, image=image, mask=mask), param)


@check
async def names_that_are_not_there_are_refused(rig: Rig) -> None:
    """An unknown scheduler, LoRA, ControlNet or VAE is `RequestRefused` on entry, naming the field."""
    name = "no-such-name"
    await _require_refused(rig, _asked(rig, scheduler=name), "scheduler")
    await _require_refused(rig, _asked(rig, loras=(Lora(name),)), "loras")
    await _require_refused(rig, _asked(rig, control=(Control(name, b""),)), "control")
    await _require_refused(rig, _asked(rig, vae=name), "vae")
    await rig.idle()


@check
async def leaving_stops_the_pictures(rig: Rig) -> None:
    """Leaving after the first step, or before it, stops the work within moments and counts as an abort."""
    await rig.idle()
    aborted = rig.engine.stats().requests_aborted_total
    async with rig.makes_images.make_images(_asked(rig, steps=_LONG, count=8)) as events:
        await anext(events)
        require((await rig.engine.health()).state == "ready", "at work it must be ready")
    async with rig.makes_images.make_images(_asked(rig, steps=_LONG, count=8)):
        pass
    await rig.idle()
    counted = rig.engine.stats().requests_aborted_total - aborted
    require(counted == 2, f"2 requests were left, {counted} counted as aborted")


@check
async def one_picture_too_many_is_refused_at_once(rig: Rig) -> None:
    """When all slots are taken and `waiting_max` wait, one more is `EngineBusy`, and those before it are answered."""
    await rig.idle()
    async with asyncio.TaskGroup() as waiting, AsyncExitStack() as running:
        for _ in range(rig.engine.capacity):
            work = rig.makes_images.make_images(_asked(rig, steps=_LONG, count=8))
            await anext(await running.enter_async_context(work))
        tasks = [waiting.create_task(_one(rig, _asked(rig, steps=1))) for _ in range(rig.spec.waiting_max)]
        await rig.until(lambda: rig.engine.stats().waiting == len(tasks), "the queue did not fill")
        error = await _refusal(rig, _asked(rig))
        require(isinstance(error, EngineBusy), f"one too many must be EngineBusy, not {error!r}")
    await rig.idle()


@check
async def pictures_come_over_the_port(rig: Rig) -> None:
    """The same pictures, one event a line, then a finish with pixel-steps, revision and label."""
    asked = _asked(rig, count=2)
    alone = await _made(rig, asked)
    async with port_of(rig) as port:
        answer = await exchanged(port, "POST", IMAGE_PATH, encode(asked))
    require(
        (answer.status, answer.content_type) == (200, NDJSON), f"{answer.status}, {answer.content_type!r}"
    )
    *events, last = (decode_image_event(line) for line in answer.body.splitlines())
    require(tuple(events) == alone.events, "the events differ from those without the port")
    pixel_steps = sum(picture.width * picture.height * picture.steps for picture in alone.pictures)
    finish = ImageFinish(pixel_steps=pixel_steps, revision=REVISION, engine=rig.engine.label)
    require(last == finish, f"the last event is {last!r}, not {finish!r}")


@check
async def the_port_stops_pictures_and_names_fields(rig: Rig) -> None:
    """Closing the connection stops the work; what a customer got wrong is 400 with the field."""
    await rig.idle()
    aborted = rig.engine.stats().requests_aborted_total
    async with port_of(rig) as port:
        async with opened(port, "POST", IMAGE_PATH, encode(_asked(rig, steps=_LONG, count=8))) as reader:
            await reader.readuntil(b'"e":"s"')
        await rig.idle()
        require(rig.engine.stats().requests_aborted_total == aborted + 1, "it was not counted as aborted")
        for changes, param in (
            ({"steps": 0}, "steps"),
            ({"width": 7}, "width"),
            ({"scheduler": "?"}, "scheduler"),
        ):
            error = refusal(await exchanged(port, "POST", IMAGE_PATH, encode(_asked(rig, **changes))), 400)
            require((error.fault, error.param) == (Fault.CUSTOMER, param), f"{changes} gave {error!r}")


@check
async def closing_breaks_off_pictures(rig: Rig) -> None:
    """`close` ends running requests with `EngineFailed`, may come twice, and nothing can be asked for afterwards."""
    reading = asyncio.create_task(_made(rig, _asked(rig, steps=_LONG, count=8)))
    await rig.until(lambda: rig.engine.stats().running > 0, "nothing runs")
    await rig.engine.close()
    ended = (await asyncio.gather(reading, return_exceptions=True))[0]
    require(isinstance(ended, EngineFailed), f"a request cut by close must raise EngineFailed, not {ended!r}")
    await rig.engine.close()
    for engine, when in ((rig.engine, "after close"), (rig.spare(), "before load")):
        assert isinstance(engine, MakesImages)
        raised = (await asyncio.gather(_entered(engine, _asked(rig)), return_exceptions=True))[0]
        require(isinstance(raised, EngineFailed), f"{when} it must raise EngineFailed, not {raised!r}")
        await engine.close()


def _asked(rig: Rig, **changes: object) -> ImageRequest:
    side = rig.subject.picture_side
    plain = ImageRequest(prompt=rig.subject.picture, width=side, height=side, steps=2, seed=1)
    return msgspec.structs.replace(plain, **changes)


async def _one(rig: Rig, asked: ImageRequest) -> ImageMade:
    return (await _made(rig, asked)).pictures[0]


async def _made(rig: Rig, asked: ImageRequest) -> Made:
    """Run `asked` to the end. Raises: Nonconformance when what came is not what it must be."""
    async with rig.makes_images.make_images(asked) as stream:
        made = Made(events=tuple([event async for event in stream]))
    require(
        len(made.pictures) == asked.count, f"{asked.count} pictures were asked, {len(made.pictures)} came"
    )
    for index, picture in enumerate(made.pictures):
        _check_picture(picture, asked, index)
    steps = [(event.step, event.of) for event in made.events if isinstance(event, ImageProgress)]
    of = sum(picture.steps for picture in made.pictures)
    require(steps == [(step, of) for step in range(1, of + 1)], f"{of} steps were told as {steps}")
    return made


def _check_picture(picture: ImageMade, asked: ImageRequest, index: int) -> None:
    require(picture.index == index, f"picture {index} says that it is {picture.index}")
    said = (picture.width, picture.height, picture.format)
    require(said == (asked.width, asked.height, asked.format), f"the picture says {said}, asked was {asked}")
    require(1 <= picture.steps <= asked.steps, f"{asked.steps} steps were asked, {picture.steps} were run")
    at, magic = _MAGIC[asked.format]
    require(picture.data[at : at + len(magic)] == magic, f"the data is no {asked.format}")


def _png_size(data: bytes) -> tuple[int, int]:
    """Of the image header chunk, which is always the first."""
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


async def _require_refused(rig: Rig, asked: ImageRequest, param: str) -> None:
    error = await _refusal(rig, asked)
    require(
        isinstance(error, RequestRefused) and error.param == param,
        f"it must be refused naming {param!r}; it raised {error!r}",
    )


async def _refusal(rig: Rig, asked: ImageRequest) -> EngineError:
    try:
        await _entered(rig.makes_images, asked)
    except EngineError as error:
        require(8 <= len(error.message) <= 800, f"a message of {len(error.message)} characters is none")
        require(str(rig.spec.path.parent) not in error.message, f"a path is told: {error.message!r}")
        return error
    raise Nonconformance(f"{asked} must be refused on entry")


async def _entered(engine: MakesImages, asked: ImageRequest) -> None:
    async with engine.make_images(asked):
        pass


PICTURES = (
    progress_then_each_picture,
    a_picture_has_the_asked_size_and_format,
    a_seed_gives_the_same_picture,
    a_batch_is_its_pictures_alone,
    an_input_picture_is_worked_from,
    names_that_are_not_there_are_refused,
    leaving_stops_the_pictures,
    one_picture_too_many_is_refused_at_once,
    pictures_come_over_the_port,
    the_port_stops_pictures_and_names_fields,
)
CLOSING_PICTURES = (closing_breaks_off_pictures,)
