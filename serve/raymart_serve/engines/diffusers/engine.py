"""Pictures with diffusers in the replica's own process.

One request is worked on at a time, in one thread: a pipeline keeps state in its parts, and a processor or a GPU makes
one picture after the other faster than two beside each other. The pictures of a batch are made one by one too: beside
others a picture would be computed in other block sizes and come out with other bytes than alone.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from raymart_core.wire.image import IMAGE_SIDE_PIXELS_MAX, ImageMade, ImageProgress, ImageRequest
from raymart_serve.engines.channel import ChannelClosed, StepChannel
from raymart_serve.engines.diffusers.folder import Folder, read_folder
from raymart_serve.engines.diffusers.infotext import Maker, infotext
from raymart_serve.engines.diffusers.plan import check_names, steps_run
from raymart_serve.engines.protocol import (
    EngineError,
    EngineFailed,
    EngineHealth,
    EngineSpec,
    EngineStats,
)
from raymart_serve.engines.slots import SlotGate

if TYPE_CHECKING:
    from raymart_serve.engines.diffusers.model import Model
    from raymart_serve.engines.diffusers.pictures import Pictures

log = structlog.get_logger()

_CHANNEL_EVENTS_MAX = 16
_SEEDS = 2**32
_WARM_UP_PIXELS = 64
"""Side of the warm-up's picture on a processor, where it only loads code; a GPU also tunes itself to the size."""
_DTYPES = ("bfloat16", "float16", "float32")

_Event = ImageProgress | ImageMade
_Channel = StepChannel[_Event | EngineError | None]
"""None after the last picture."""


class DiffusersEngine:
    """Implements `engines.protocol.MakesImages` for folders in the layout of diffusers.

    Parameter of a revision: "dtype", one of float32, float16 and bfloat16; without it float16 on a GPU, else float32.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._gate = SlotGate(slots=1, waiting_max=spec.waiting_max)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="diffusers")
        self._open: set[_Events] = set()
        self._folder: Folder | None = None
        self._model: Model | None = None
        self._broken = ""
        self._requests_aborted = 0

    @property
    def label(self) -> str:
        """Name and version of the library."""
        return f"diffusers {version('diffusers')}"

    @property
    def context_length(self) -> int:
        """Tokens of a caption."""
        return self._spec.context_length

    @property
    def capacity(self) -> int:
        """One, whatever the spec's slots."""
        return 1

    async def load(self, progress: Callable[[int], None]) -> None:
        """Check the folder, then load it: `progress` gets 0, 10 and 100. Raises: EngineFailed."""
        unknown = set(self._spec.parameters) - {"dtype"}
        if unknown or self._spec.parameters.get("dtype", "float32") not in _DTYPES:
            raise EngineFailed(
                f"parameters are {dict(self._spec.parameters)}; known is 'dtype', one of {', '.join(_DTYPES)}"
            )
        loop = asyncio.get_running_loop()
        progress(0)
        self._folder = await loop.run_in_executor(self._worker, read_folder, self._spec.path)
        progress(10)
        self._model = await loop.run_in_executor(self._worker, self._load, self._folder)
        progress(100)

    async def warm_up(self) -> None:
        """Make a picture in two steps. Raises: EngineFailed."""
        model, _ = self._loaded()
        side = min(model.native_pixels, IMAGE_SIDE_PIXELS_MAX) if model.on_accelerator else _WARM_UP_PIXELS
        request = ImageRequest(prompt="a circle", width=side, height=side, steps=2, seed=0, guidance=2.0)
        async with self.make_images(request) as events:
            async for _ in events:
                pass
        # The thread gives its turn back a moment after the last event; "ready" promises that it is free.
        await self._gate.idle()

    def make_images(
        self, request: ImageRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[ImageProgress | ImageMade]]:
        """See the protocol. The step in work when the reader leaves is still computed, and no more.

        A `RequestRefused` may also come while iterating: from the revision's own safety checker.
        """
        return self._making(request)

    async def health(self) -> EngineHealth:
        """Loading before `load`; failing when the accelerator is lost or a request gets no step for long."""
        if self._model is None:
            return EngineHealth(state="loading", percent=0)
        if self._broken:
            return EngineHealth(state="failing", reason=self._broken)
        now = time.monotonic()
        stalled_s = max(
            (now - events.engine_since for events in self._open if events.engine_since), default=0.0
        )
        if stalled_s > self._spec.stall_s:
            return EngineHealth(state="failing", reason=f"a picture has had no step for {stalled_s:.0f} s")
        return EngineHealth(state="ready")

    def stats(self) -> EngineStats:
        """Counters now; no tokens are generated here."""
        return EngineStats(
            running=self._gate.running,
            waiting=self._gate.waiting,
            tokens_generated_total=0,
            requests_aborted_total=self._requests_aborted,
        )

    async def close(self) -> None:
        """Abort all requests, wait for the thread, free the model."""
        # First, so that what waits for its turn is not begun.
        self._model = None
        for events in tuple(self._open):
            events.channel.close()
        await asyncio.get_running_loop().run_in_executor(None, self._worker.shutdown)

    def _loaded(self) -> "tuple[Model, Folder]":
        if self._model is None or self._folder is None:
            raise EngineFailed("the model is not loaded; call load first")
        return self._model, self._folder

    def _load(self, folder: Folder) -> "Model":
        # torch takes seconds to import; the package must stay importable where it is not installed.
        from raymart_serve.engines.diffusers.model import Model  # noqa: PLC0415

        threads = self._spec.threads or max(1, (os.cpu_count() or 2) - 1)
        return Model(folder, threads=threads, dtype=self._spec.parameters.get("dtype"))

    @asynccontextmanager
    async def _making(self, request: ImageRequest) -> AsyncGenerator[AsyncIterator[_Event], None]:
        from raymart_serve.engines.diffusers.pictures import check_heads, read_pictures  # noqa: PLC0415

        model, folder = self._loaded()
        check_names(request, folder)
        steps = steps_run(request)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, check_heads, request)
        await self._gate.acquire()
        try:
            pictures = await loop.run_in_executor(None, read_pictures, request)
            self._loaded()  # it may have been closed while the request waited
        except BaseException:
            self._gate.release()
            raise
        events = _Events(_Channel(loop, size_max=_CHANNEL_EVENTS_MAX))
        job = _Job(request, pictures, steps, events, self._spec)
        work = loop.run_in_executor(self._worker, self._run, model, job)
        # The turn is over when the thread is done, which may be a step after the reader has left.
        work.add_done_callback(lambda _: self._gate.release())
        self._open.add(events)
        try:
            yield events
        finally:
            events.channel.close()
            self._open.discard(events)
            self._requests_aborted += not events.finished

    def _run(self, model: "Model", job: "_Job") -> None:
        """In the working thread: every way out puts an end or a failure, or finds the reader gone."""
        events = job.events
        try:
            job.run(model, self.label)
            events.channel.put(None)
        except _ReaderLeft:
            return
        except EngineError as error:
            self._failed(model, error)
            events.channel.put(error)
        except Exception as error:
            log.exception("image.failed")
            events.channel.put(EngineFailed(f"the picture could not be made: {type(error).__name__}"))
        finally:
            events.engine_since = None

    def _failed(self, model: "Model", error: EngineError) -> None:
        from raymart_serve.engines.diffusers.model import DeviceLost, MemoryTooSmall  # noqa: PLC0415

        log.warning("image.failed", reason=error.message, cause=repr(error.__cause__))
        if isinstance(error, DeviceLost):
            self._broken = error.message
        elif isinstance(error, MemoryTooSmall):
            model.release()


class _ReaderLeft(BaseException):
    """Raised inside the denoising loop when nobody waits for the picture any more.

    No `Exception`, so that what turns the libraries' faults into ours lets it pass.
    """


class _Job:
    """One request in the working thread."""

    def __init__(
        self, request: ImageRequest, pictures: "Pictures", steps: int, events: "_Events", spec: EngineSpec
    ) -> None:
        self.events = events
        self._request = request
        self._pictures = pictures
        self._steps = steps
        self._spec = spec
        self._told_last = 0

    def run(self, model: "Model", label: str) -> None:
        """Make all pictures. Raises: _ReaderLeft, EngineError."""
        from raymart_serve.engines.diffusers.files import encoded  # noqa: PLC0415

        request = self._request
        maker = Maker(model=self._spec.model, revision=self._spec.revision, label=label)
        for index in range(request.count):
            seed = (request.seed + index) % _SEEDS
            self.events.engine_since = time.monotonic()
            made = model.make(request, self._pictures, seed=seed, on_step=partial(self._told, index))
            parameters = infotext(request, seed=seed, sampler=model.sampler(request), maker=maker)
            self._hand_over(
                ImageMade(
                    index=index,
                    seed=seed,
                    width=made.width,
                    height=made.height,
                    steps=self._steps,
                    format=request.format,
                    data=encoded(self._pictures.framed(made), form=request.format, parameters=parameters),
                    parameters=parameters,
                )
            )

    def _told(self, index: int, done: int) -> None:
        # Schedulers of second order visit a step twice, and PLMS takes one more than was asked for.
        step = index * self._steps + min(done, self._steps)
        if step == self._told_last:
            return
        self._told_last = step
        if self._spec.step_delay_s and not self.events.channel.pause(self._spec.step_delay_s):
            raise _ReaderLeft
        self._hand_over(ImageProgress(step=step, of=self._request.count * self._steps))

    def _hand_over(self, event: _Event) -> None:
        self.events.engine_since = None
        if not self.events.channel.put(event):
            raise _ReaderLeft
        self.events.engine_since = time.monotonic()


class _Events(AsyncIterator[_Event]):
    """What the thread puts into one request's channel, up to the end."""

    def __init__(self, channel: _Channel) -> None:
        self.channel = channel
        self.finished = False
        self.engine_since: float | None = None
        """Monotonic time since which it is the engine's turn; None while it is the reader's. Set by the thread."""

    async def __anext__(self) -> _Event:
        if self.finished:
            raise StopAsyncIteration
        try:
            event = await self.channel.get()
        except ChannelClosed as error:
            raise EngineFailed("the engine was closed") from error
        if isinstance(event, EngineError):
            raise event
        if event is None:
            self.finished = True
            raise StopAsyncIteration
        return event
