"""`POST /v1/image`: progress while pictures are made, each picture as soon as it is whole."""

from raymart_core.wire.image import ImageFinish, ImageMade
from raymart_core.wire.replica import NDJSON, encode
from raymart_serve.engines.protocol import MakesImages, RequestRefused
from raymart_serve.replica.http_exchange import Exchange, Request
from raymart_serve.replica.image_request import read_image_request
from raymart_serve.replica.unary_routes import PIECE_BYTES, Serving


class ImageRoutes:
    """The route of engines that make pictures. Raises what the engine raises."""

    def __init__(self, replica: Serving) -> None:
        self._replica = replica

    async def make(self, request: Request, exchange: Exchange) -> None:
        """Make what is asked for; the pixel-steps of the finish are those of the pictures sent."""
        engine = self._replica.engine
        if not isinstance(engine, MakesImages):
            raise RequestRefused(f"{engine.label} makes no pictures with this model", param="model")
        pixel_steps = 0
        async with engine.make_images(read_image_request(request.body)) as events:
            exchange.start(NDJSON)
            async for event in events:
                await _write(exchange, encode(event) + b"\n")
                if isinstance(event, ImageMade):
                    pixel_steps += event.width * event.height * event.steps
        finish = ImageFinish(pixel_steps=pixel_steps, revision=self._replica.revision, engine=engine.label)
        await exchange.finish(encode(finish) + b"\n")


async def _write(exchange: Exchange, line: bytes) -> None:
    """Send `line` no faster than it is read: a picture is larger than a connection's buffers. Raises: ReaderTooSlow."""
    for start in range(0, len(line), PIECE_BYTES):
        await exchange.write(line[start : start + PIECE_BYTES])
