"""An engine of pictures that breaks a promise is found out: each check is shown the fault that it is there to find."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from raymart_core.wire.image import ImageMade, ImageProgress, ImageRequest
from raymart_serve.conformance import Nonconformance, Rig, Subject
from raymart_serve.conformance.pictures import CLOSING_PICTURES, PICTURES
from raymart_serve.engines.protocol import EngineFailed, EngineHealth, EngineSpec, EngineStats, RequestRefused
from raymart_serve.engines.slots import SlotGate

CHECKS = {str(check): check for check in (*PICTURES, *CLOSING_PICTURES)}
SPEC = EngineSpec(path=Path(), context_length=8, slots=1, waiting_max=1)
HEADS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF\0\0\0\0WEBP"}


class Painter:
    """A sound engine that paints one colour, by its seed; no library, so that each fault takes milliseconds."""

    label = "painter 1"
    context_length = 8
    capacity = 1

    def __init__(self, spec: EngineSpec) -> None:
        self.gate = SlotGate(slots=1, waiting_max=spec.waiting_max)
        self.loaded = False
        self.aborted = 0
        self.runs = 0

    async def load(self, progress: Callable[[int], None]) -> None:
        self.loaded = True

    async def warm_up(self) -> None: ...

    async def health(self) -> EngineHealth:
        return EngineHealth(state="ready")

    def stats(self) -> EngineStats:
        return EngineStats(
            running=self.gate.running,
            waiting=self.gate.waiting,
            tokens_generated_total=0,
            requests_aborted_total=self.aborted,
        )

    async def close(self) -> None:
        self.loaded = False

    @asynccontextmanager
    async def make_images(
        self, request: ImageRequest
    ) -> AsyncIterator[AsyncIterator[ImageProgress | ImageMade]]:
        if not self.loaded:
            raise EngineFailed("the model is not loaded")
        self.check_names(request)
        self.check_pictures(request)
        await self.gate.acquire()
        self.runs += 1
        self.finished = False
        try:
            yield self.stream(request)
        finally:
            self.aborted += not self.finished
            self.left()

    def left(self) -> None:
        self.gate.release()

    def check_names(self, request: ImageRequest) -> None:
        for param, names in (
            ("scheduler", request.scheduler),
            ("loras", request.loras),
            ("control", request.control),
            ("vae", request.vae),
        ):
            if names:
                raise RequestRefused(f"there is no such {param}", param=param)

    def check_pictures(self, request: ImageRequest) -> None:
        for param, data in (("image", request.image), ("mask", request.mask)):
            if data is not None and not (data.startswith(HEADS["png"]) and data.endswith(b"END")):
                raise RequestRefused(f"{param} is no picture", param=param)

    def steps(self, request: ImageRequest) -> int:
        return request.steps if request.image is None else int(request.steps * request.strength)

    async def stream(self, request: ImageRequest) -> AsyncIterator[ImageProgress | ImageMade]:
        steps = self.steps(request)
        for index in range(request.count):
            for step in range(1, steps + 1):
                await asyncio.sleep(0.001)
                if not self.loaded:
                    raise EngineFailed("the engine was closed")
                yield ImageProgress(step=index * steps + step, of=request.count * steps)
            yield self.picture(request, index, steps)
        self.finished = True

    def picture(self, request: ImageRequest, index: int, steps: int) -> ImageMade:
        seed = (request.seed + index) % 2**32
        parameters = f"Seed: {seed}, Size: {request.width}x{request.height}"
        head = struct.pack(">4x4sII", b"IHDR", request.width, request.height)
        colour = hashlib.sha256(f"{seed} {request.image!r}".encode()).digest()
        data = HEADS[request.format] + head + colour + parameters.encode() + b"END"
        return ImageMade(
            index=index,
            seed=seed,
            width=request.width,
            height=request.height,
            steps=steps,
            format=request.format,
            data=data,
            parameters=parameters,
        )


def changed(picture: ImageMade, **changes: object) -> ImageMade:
    return msgspec.structs.replace(picture, **changes)


class AllAtTheEnd(Painter):
    async def stream(self, request):
        events = [event async for event in super().stream(request)]
        for event in sorted(events, key=lambda event: isinstance(event, ImageMade)):
            yield event


class SkipsProgress(Painter):
    async def stream(self, request):
        async for event in super().stream(request):
            if isinstance(event, ImageMade) or event.step > 1:
                yield event


class OnePictureLess(Painter):
    async def stream(self, request):
        async for event in super().stream(request):
            if isinstance(event, ImageProgress) or event.index + 1 < max(2, request.count):
                yield event


class SidesSwapped(Painter):
    def picture(self, request, index, steps):
        turned = msgspec.structs.replace(request, width=request.height, height=request.width)
        return changed(super().picture(turned, index, steps), width=request.width, height=request.height)


class AlwaysPng(Painter):
    def picture(self, request, index, steps):
        made = super().picture(msgspec.structs.replace(request, format="png"), index, steps)
        return changed(made, format=request.format)


class WithoutParameters(Painter):
    def picture(self, request, index, steps):
        return changed(super().picture(request, index, steps), parameters="Seed: 3, but not inside")


class WithoutSeeds(Painter):
    def picture(self, request, index, steps):
        made = super().picture(request, index, steps)
        return changed(made, data=made.data[:-3] + bytes([self.runs % 256]) + b"END")


class OneSeed(Painter):
    def picture(self, request, index, steps):
        return super().picture(msgspec.structs.replace(request, seed=3 - index), index, steps)


class BatchDecides(Painter):
    def picture(self, request, index, steps):
        made = super().picture(request, index, steps)
        return changed(made, data=made.data + bytes([request.count]))


class SeedsDoNotWrap(Painter):
    def picture(self, request, index, steps):
        return changed(super().picture(request, index, steps), seed=request.seed + index)


class AllStepsFromAPicture(Painter):
    def steps(self, request):
        return request.steps


class TakesAnyPicture(Painter):
    def check_pictures(self, request): ...


class TakesAnyName(Painter):
    def check_names(self, request): ...


class RunsOn(Painter):
    def left(self) -> None:
        asyncio.get_running_loop().call_later(2.0, super().left)


class AbortsAreNotCounted(Painter):
    def stats(self):
        return replace(super().stats(), requests_aborted_total=0)


class EndlessQueue(Painter):
    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self.gate = SlotGate(slots=1, waiting_max=1_000)


class AnotherPictureEachTime(WithoutSeeds):
    """Over the port it is asked again."""


class AliveAfterClose(Painter):
    async def close(self) -> None: ...


FAULTS = [
    ("progress_then_each_picture", AllAtTheEnd),
    ("progress_then_each_picture", SkipsProgress),
    ("progress_then_each_picture", OnePictureLess),
    ("a_picture_has_the_asked_size_and_format", SidesSwapped),
    ("a_picture_has_the_asked_size_and_format", AlwaysPng),
    ("a_picture_has_the_asked_size_and_format", WithoutParameters),
    ("a_seed_gives_the_same_picture", WithoutSeeds),
    ("a_seed_gives_the_same_picture", OneSeed),
    ("a_batch_is_its_pictures_alone", BatchDecides),
    ("a_batch_is_its_pictures_alone", SeedsDoNotWrap),
    ("an_input_picture_is_worked_from", AllStepsFromAPicture),
    ("an_input_picture_is_worked_from", TakesAnyPicture),
    ("names_that_are_not_there_are_refused", TakesAnyName),
    ("leaving_stops_the_pictures", RunsOn),
    ("leaving_stops_the_pictures", AbortsAreNotCounted),
    ("one_picture_too_many_is_refused_at_once", EndlessQueue),
    ("pictures_come_over_the_port", AnotherPictureEachTime),
    ("the_port_stops_pictures_and_names_fields", AbortsAreNotCounted),
    ("the_port_stops_pictures_and_names_fields", TakesAnyName),
    ("closing_breaks_off_pictures", AliveAfterClose),
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_engine_passes(check: str) -> None:
    with Rig(Subject(factory=Painter, spec=SPEC)) as rig:
        rig.run(CHECKS[check])


@pytest.mark.parametrize(("check", "engine"), FAULTS, ids=lambda part: getattr(part, "__name__", part))
def test_the_fault_is_found(check: str, engine: type[Painter]) -> None:
    with (
        Rig(Subject(factory=engine, spec=SPEC), check_timeout_s=0.8, settle_s=0.3) as rig,
        pytest.raises(Nonconformance),
    ):
        rig.run(CHECKS[check])


def test_every_check_is_shown_its_fault() -> None:
    assert {name for name, _ in FAULTS} == set(CHECKS)
