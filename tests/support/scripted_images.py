"""What a scripted replica answers to a request for pictures, and pictures to answer with."""

from collections.abc import Awaitable, Callable
from io import BytesIO

from PIL import Image, PngImagePlugin

from raymart_core.wire.image import (
    ImageFinish,
    ImageMade,
    ImageProgress,
    ImageRequest,
    decode_image_request,
)
from support.scripted_replica import REVISION, Exchange


def picture(width: int, height: int, *, seed: int = 0, kind: str = "png", text: str | None = None) -> bytes:
    """A real picture in one colour that follows from `seed`."""
    image = Image.new("RGB", (width, height), ((seed * 37) % 256, (seed * 91) % 256, 128))
    return encoded(image, kind=kind, text=text)


def encoded(image: Image.Image, *, kind: str = "png", text: str | None = None) -> bytes:
    """`image` as a file."""
    file = BytesIO()
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_text("parameters", text)
    image.save(file, kind.upper(), **({"pnginfo": info} if kind == "png" else {}))
    return file.getvalue()


def asked(exchange: Exchange) -> ImageRequest:
    """What the gateway asks for."""
    return decode_image_request(exchange.body)


def steps_of(request: ImageRequest) -> int:
    """Steps that an honest engine runs for one picture."""
    return request.steps if request.image is None else int(request.steps * request.strength)


def progress(exchange: Exchange, step: int, of: int) -> None:
    exchange.event(ImageProgress(step=step, of=of))


def made(exchange: Exchange, index: int = 0, **changes: object) -> None:
    """One honest picture, unless `changes` say otherwise."""
    request = asked(exchange)
    seed = (request.seed + index) % 2**32
    parameters = f"{request.prompt}\nSteps: {request.steps}, Seed: {seed}"
    fields: dict[str, object] = {
        "index": index, "seed": seed, "width": request.width, "height": request.height, "steps": steps_of(request),
        "format": request.format, "parameters": parameters,
        "data": picture(request.width, request.height, seed=seed, kind=request.format, text=parameters),
    }  # fmt: skip
    exchange.event(ImageMade(**(fields | changes)))


def finish(exchange: Exchange, *, revision: str = REVISION, pixel_steps: int | None = None) -> None:
    request = asked(exchange)
    honest = request.width * request.height * steps_of(request) * request.count
    exchange.event(
        ImageFinish(
            pixel_steps=honest if pixel_steps is None else pixel_steps, revision=revision, engine="scripted 1"
        )
    )
    exchange.end()


async def paint(exchange: Exchange) -> None:
    """The honest script."""
    request = asked(exchange)
    exchange.head()
    steps, step = steps_of(request), 0
    for index in range(request.count):
        for _ in range(steps):
            step += 1
            progress(exchange, step, steps * request.count)
        made(exchange, index)
    finish(exchange)


def after(events: int, then: Callable[[Exchange], None]) -> Callable[[Exchange], Awaitable[None]]:
    """Begin honestly, with `events` steps, then do something else."""

    async def script(exchange: Exchange) -> None:
        exchange.head()
        request = asked(exchange)
        for step in range(events):
            progress(exchange, step + 1, steps_of(request) * request.count)
        then(exchange)

    return script
