"""Pictures in OpenAI's shape: in one piece, or as server-sent events.

Source: https://platform.openai.com/docs/api-reference/images and .../images-streaming. A progress event, of which OpenAI
has none, goes between: clients pass over types that they do not know.
"""

from base64 import b64encode
from uuid import UUID

import msgspec

from raymart_core.errors import DomainError
from raymart_core.money import Money
from raymart_marketplace.gateway.error_reply import ErrorObject, error_object
from raymart_marketplace.gateway.images.events import (
    Picture,
    PictureProgress,
    PicturesBroken,
    PicturesFinished,
)
from raymart_marketplace.gateway.openai_usage import decimal_text

_encode = msgspec.json.Encoder().encode


class InputDetails(msgspec.Struct):
    """Parts of the input; nothing of it costs."""

    image_tokens: int = 0
    text_tokens: int = 0


class ImageUsage(msgspec.Struct):
    """What is billed: `pixel_steps`, of which a million are one megapixel-step; the tokens are OpenAI's and none."""

    cost: str
    pixel_steps: int
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: InputDetails = msgspec.field(default_factory=InputDetails)


class ImageDatum(msgspec.Struct, omit_defaults=True):
    """One picture: inline or where to fetch it."""

    seed: int
    parameters: str
    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class ImagesReply(msgspec.Struct):
    """The whole answer."""

    created: int
    data: list[ImageDatum]
    model: str
    provider: str
    output_format: str
    size: str
    usage: ImageUsage


class _Progress(msgspec.Struct):
    type: str
    step: int
    of: int


class _Completed(msgspec.Struct, omit_defaults=True):
    type: str
    created_at: int
    output_format: str
    size: str
    seed: int
    index: int
    b64_json: str | None = None
    url: str | None = None
    usage: ImageUsage | None = None


class _Failed(msgspec.Struct):
    type: str
    error: ErrorObject
    usage: ImageUsage


def datum(picture: Picture, url: str | None) -> ImageDatum:
    """`picture` as its URL when there is one, else inline."""
    return ImageDatum(
        seed=picture.seed,
        parameters=picture.parameters,
        url=url,
        b64_json=None if url is not None else b64encode(picture.data).decode(),
    )


def reply_body(data: list[ImageDatum], one: Picture, finished: PicturesFinished) -> bytes:
    """The whole answer; `one` is any of its pictures."""
    return _encode(
        ImagesReply(
            created=int(finished.created_at.timestamp()),
            data=data,
            model=finished.model,
            provider=finished.provider,
            output_format=one.format,
            size=f"{one.width}x{one.height}",
            usage=_usage(finished),
        )
    )


def progress_event(kind: str, progress: PictureProgress) -> bytes:
    """A step is done."""
    return _event(_Progress(type=f"{kind}.progress", step=progress.step, of=progress.of))


def completed_event(
    kind: str, picture: Picture, url: str | None, *, created_at: int, finished: PicturesFinished | None
) -> bytes:
    """A picture is there; the last of a request says what all of them cost."""
    return _event(
        _Completed(
            type=f"{kind}.completed",
            created_at=created_at,
            output_format=picture.format,
            size=f"{picture.width}x{picture.height}",
            seed=picture.seed,
            index=picture.index,
            url=url,
            b64_json=None if url is not None else b64encode(picture.data).decode(),
            usage=None if finished is None else _usage(finished),
        )
    )


def error_event(broken: PicturesBroken) -> bytes:
    """Why no more comes, and what is billed all the same."""
    error = error_object(broken.error, request_id=broken.request_id)
    return _event(_Failed(type="error", error=error, usage=_usage(broken)))


def failure_event(error: DomainError, *, request_id: UUID) -> bytes:
    """Why no picture comes at all; nothing is billed."""
    nothing = ImageUsage(cost=decimal_text(Money(0)), pixel_steps=0)
    return _event(_Failed(type="error", error=error_object(error, request_id=request_id), usage=nothing))


def _event(event: _Progress | _Completed | _Failed) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), _encode(event))


def _usage(ended: PicturesFinished | PicturesBroken) -> ImageUsage:
    return ImageUsage(cost=decimal_text(ended.cost), pixel_steps=ended.pixel_steps)
