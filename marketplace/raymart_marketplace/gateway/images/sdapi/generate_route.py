"""`POST /sdapi/v1/txt2img` and `POST /sdapi/v1/img2img`."""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from starlette.types import Receive, Scope

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.gateway.asked_deadline import asked_deadline_s
from raymart_marketplace.gateway.body import read_body
from raymart_marketplace.gateway.endpoint import Answer, Headers
from raymart_marketplace.gateway.generation_route import READ_GRACE_S
from raymart_marketplace.gateway.images.events import Picture, PictureProgress, PicturesFinished
from raymart_marketplace.gateway.images.headers import headers_of
from raymart_marketplace.gateway.images.inference import ImageInference
from raymart_marketplace.gateway.images.request import PictureRequest, input_head
from raymart_marketplace.gateway.images.sdapi.body import (
    ImageToImage,
    TextToImage,
    read_controls,
    read_image_to_image,
    read_loras,
    read_picture,
    read_scheduler,
    read_text_to_image,
)
from raymart_marketplace.gateway.images.sdapi.checkpoints import Checkpoints
from raymart_marketplace.gateway.images.sdapi.endpoint import SdapiEndpoint
from raymart_marketplace.gateway.images.sdapi.jobs import Jobs
from raymart_marketplace.gateway.images.sdapi.reply import answer_body
from raymart_marketplace.gateway.presence import Presence
from raymart_marketplace.metering.models import Surface

if TYPE_CHECKING:
    from raymart_marketplace.gateway.images.decoding import ResizeMode

_RESIZE_MODES: "tuple[ResizeMode, ...]" = ("stretch", "crop", "fill", "stretch")
"""By AUTOMATIC1111's number; the last is its latent upscale, which has no picture in between."""
STRENGTH = 0.75
AT_ONCE_BYTES_MAX = 512 * 1024
"""Pictures that are written in base64 in the event loop: half a millisecond, less than it takes to have a thread do it."""

AskedT = TypeVar("AskedT", bound=TextToImage)


class _GenerateRoute(SdapiEndpoint):
    """Pictures, in one piece; `/progress` tells how far they are."""

    method = "POST"

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        images: ImageInference,
        checkpoints: Checkpoints,
        jobs: Jobs,
        body_bytes_max: int,
    ) -> None:
        super().__init__(authenticator)
        self.headers_of = images.headers_of
        self._images = images
        self._checkpoints = checkpoints
        self._jobs = jobs
        self._body_bytes_max = body_bytes_max
        self._limit_s = images.limits.request_deadline_s + READ_GRACE_S

    @abstractmethod
    async def parse(self, caller: Caller, body: bytes) -> tuple[TextToImage, PictureRequest]:
        """Read the body. Raises: InvalidRequest, Unavailable."""

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer one request. Raises: whatever `ImageInference.run` raises."""
        body = await read_body(scope, receive, bytes_max=self._body_bytes_max)
        asked, request = await self.parse(caller, body)
        async with Presence(scope, limit_s=self._limit_s) as presence:
            deadline_s = asked_deadline_s(scope)
            written, headers = await self._written(caller, asked, request, answer, deadline_s=deadline_s)
            presence.dismiss()
            await answer.json(written, headers)

    async def _written(
        self,
        caller: Caller,
        asked: TextToImage,
        request: PictureRequest,
        answer: Answer,
        *,
        deadline_s: float | None,
    ) -> tuple[bytes, Headers]:
        """Make the pictures and write the answer; the headers say who served, unless it was interrupted."""
        pictures: list[Picture] = []
        finished: PicturesFinished | None = None
        events = self._images.run(
            caller,
            request,
            surface=Surface.REST,
            streamed=False,
            keep=False,
            request_id=answer.request_id,
            deadline_s=deadline_s,
        )
        with self._jobs.running(caller, pictures=request.count) as job:
            try:
                async for event in events:
                    if isinstance(event, PictureProgress):
                        job.step, job.of = event.step, event.of
                        if job.interrupted:
                            break
                    elif isinstance(event, Picture):
                        pictures.append(event)
                    elif isinstance(event, PicturesFinished):
                        finished = event
            finally:
                await events.aclose()
        body = await _answered(
            asked,
            request,
            pictures,
            finished,
            request_id=show(Prefix.REQUEST, answer.request_id),
            timestamp=f"{job.started_at:%Y%m%d%H%M%S}",
        )
        return body, () if finished is None else headers_of(finished)

    async def request(self, caller: Caller, asked: TextToImage, **pictures: object) -> PictureRequest:
        """What is asked of the gateway. Raises: InvalidRequest, Unavailable."""
        prompt, loras = read_loras(asked.prompt)
        options = asked.override_settings
        vae = None if options is None else options.sd_vae
        return PictureRequest(
            model=await self._checkpoints.chosen(
                caller, None if options is None else options.sd_model_checkpoint
            ),
            prompt=prompt,
            negative_prompt=asked.negative_prompt or "",
            width=asked.width,
            height=asked.height,
            steps=asked.steps,
            count=asked.batch_size * asked.n_iter,
            seed=None if asked.seed is None or asked.seed < 0 else asked.seed,
            guidance=asked.cfg_scale,
            scheduler=read_scheduler(asked),
            loras=loras,
            control=read_controls(asked),
            vae=None if vae in {None, "", "None", "Automatic"} else vae,
            **pictures,  # type: ignore[arg-type]  # by name
        )


class TextToImageRoute(_GenerateRoute):
    """`txt2img`."""

    async def parse(self, caller: Caller, body: bytes) -> tuple[TextToImage, PictureRequest]:
        """Read the body. Raises: InvalidRequest, Unavailable."""
        asked = read_text_to_image(body)
        return asked, await self.request(caller, asked)


class ImageToImageRoute(_GenerateRoute):
    """`img2img`, and with a mask inpainting.

    A mask is worked on with the whole picture in view, whatever `inpaint_full_res` says.
    """

    async def parse(self, caller: Caller, body: bytes) -> tuple[ImageToImage, PictureRequest]:
        """Read the body; the pictures are prepared in a thread. Raises: InvalidRequest, Unavailable."""
        asked = read_image_to_image(body)
        image, mask = await asyncio.to_thread(_pictures, asked)
        strength = STRENGTH if asked.denoising_strength is None else asked.denoising_strength
        request = await self.request(caller, asked, image=image, mask=mask, strength=strength)
        return asked, request


async def _answered(
    asked: TextToImage,
    request: PictureRequest,
    pictures: Sequence[Picture],
    finished: PicturesFinished | None,
    *,
    request_id: str,
    timestamp: str,
) -> bytes:
    """The answer's body; written in a thread where it is base64 of megabytes."""
    kept_inputs = isinstance(asked, ImageToImage) and bool(asked.include_init_images)
    write = partial(
        answer_body,
        asked,
        request,
        pictures,
        finished,
        request_id=request_id,
        timestamp=timestamp,
        kept_inputs=kept_inputs,
    )
    if not kept_inputs and sum(len(picture.data) for picture in pictures) <= AT_ONCE_BYTES_MAX:
        return write()
    return await asyncio.to_thread(write)


def _pictures(asked: ImageToImage) -> tuple[bytes, bytes | None]:
    """The picture and its mask, both of the result's size. Raises: InvalidRequest."""
    from raymart_marketplace.gateway.images.decoding import prepared  # noqa: PLC0415 - Pillow's 4 MB

    assert asked.init_images
    image = read_picture(asked.init_images[0], param="init_images")
    mask = None if not asked.mask else read_picture(asked.mask, param="mask")
    input_head(image, param="init_images")
    if mask is not None:
        input_head(mask, param="mask")
    # The sizes are checked before anything is made as large as they say.
    PictureRequest(model="-", prompt="", width=asked.width, height=asked.height)
    blur = asked.mask_blur or 0.0
    try:
        return prepared(
            image,
            mask,
            size=(asked.width, asked.height),
            mode=_RESIZE_MODES[asked.resize_mode],
            blur=(_blur(asked.mask_blur_x, blur), _blur(asked.mask_blur_y, blur)),
            inverted=bool(asked.inpainting_mask_invert),
        )
    except ValueError as error:
        raise InvalidRequest(f"init_images or mask: {error}", param="init_images") from None


def _blur(own: float | None, common: float) -> float:
    blur = common if own is None else own
    if not 0 <= blur <= 64:
        raise InvalidRequest(f"mask_blur={blur} is not between 0 and 64", param="mask_blur")
    return blur
