"""One try of a request for pictures on one endpoint."""

import asyncio
from functools import partial
from typing import ClassVar

import structlog

from raymart_core.errors import DeadlineExceeded
from raymart_core.units import Fault, FinishReason
from raymart_core.wire.image import (
    IMAGE_PATH,
    ImageEvent,
    ImageFinish,
    ImageFormat,
    ImageMade,
    ImageProgress,
)
from raymart_core.wire.replica import ErrorEvent
from raymart_marketplace.gateway.deadline import Patience, TimedOut
from raymart_marketplace.gateway.images.meter import ImageMeter, image_lines
from raymart_marketplace.gateway.images.request import PictureRequest
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.replica_attempt import ReplicaAttempt
from raymart_marketplace.supply.live import Lease, LiveEndpoint
from raymart_marketplace.supply.upstream import UpstreamBroken

log = structlog.get_logger(__name__)


class ImageAttempt(ReplicaAttempt[ImageEvent]):
    """A request on one endpoint. `begin` it, take its events, `close` it whatever happened."""

    awaited: ClassVar[str] = "step"

    def __init__(
        self,
        endpoint: LiveEndpoint,
        lease: Lease,
        request: PictureRequest,
        *,
        patience: Patience,
        limits: InferenceLimits,
    ) -> None:
        super().__init__(endpoint, lease, lines=image_lines(request), patience=patience, limits=limits)
        self.meter = ImageMeter(request)

    async def begin(self, body: bytes, *, request_id: str) -> None:
        """Send the request. Raises: AttemptFailed."""
        try:
            await self._post(IMAGE_PATH, body, request_id=request_id)
        except (UpstreamBroken, TimedOut, DeadlineExceeded) as error:
            raise self._failed(error) from None

    async def next_event(self) -> ImageProgress | ImageMade | None:
        """The next step, or the next picture, checked and counted; None after the last. Raises: AttemptFailed."""
        try:
            event = await self._next_event()
            if isinstance(event, ImageProgress):
                self.meter.progress(event)
            elif isinstance(event, ImageMade):
                await self._check(event)
                self.meter.picture(event)
            else:
                self._end(event)
                return None
        except (UpstreamBroken, TimedOut, DeadlineExceeded) as error:
            raise self._failed(error) from None
        if self.first_token_at is None:
            self._stepped()
        return event

    async def _check(self, event: ImageMade) -> None:
        """Decode the picture. The meter looks at its head first: only what that lets pass may be opened."""
        self.meter.check(event)
        whole = partial(_decodes, event.data, event.format, size=(event.width, event.height))
        if not await self.patience.wait(partial(asyncio.to_thread, whole), limit_s=self._limit_s()):
            raise UpstreamBroken("the replica sent a picture that cannot be decoded", fault=Fault.PROVIDER)

    def _end(self, event: ImageFinish | ErrorEvent) -> None:
        if isinstance(event, ErrorEvent):
            # As with text: what fails after it began is never the customer's doing.
            raise UpstreamBroken("the replica reports an error", fault=Fault.PROVIDER)
        self.meter.finish(event, revision=self.endpoint.revision_digest)
        if event.pixel_steps != self.meter.pixel_steps:
            log.warning(
                "usage.mismatch",
                endpoint_id=str(self.endpoint.id),
                counted=self.meter.pixel_steps,
                claimed=event.pixel_steps,
            )
        self._ended(FinishReason.STOP)


def _decodes(data: bytes, kind: ImageFormat, *, size: tuple[int, int]) -> bool:
    """See `decoding`, which takes Pillow's 4 MB: imported with the first picture, in the thread that decodes it."""
    from raymart_marketplace.gateway.images.decoding import decodes  # noqa: PLC0415

    return decodes(data, kind, size=size)
