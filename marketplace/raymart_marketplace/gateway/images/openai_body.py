"""Bodies of `/v1/images/generations` (JSON) and `/v1/images/edits` (a form).

Documented fields are listed one by one; those without effect here are marked so. Unknown ones are refused: a misspelt
option would silently cost money. Beside OpenAI's there are `seed`, `steps` and what else decides a diffusion.
Source: https://platform.openai.com/docs/api-reference/images
"""

import asyncio
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from raymart_core.errors import InvalidRequest
from raymart_core.wire.image import IMAGE_PIXELS_MAX, IMAGE_SIDE_PIXELS_MAX, IMAGES_MAX, ImageFormat
from raymart_core.wire.image_head import Head
from raymart_marketplace.gateway.asked_deadline import checked_timeout_s
from raymart_marketplace.gateway.images.multipart import Part, read_form
from raymart_marketplace.gateway.images.request import (
    SIDE_MULTIPLE,
    SIDE_PIXELS,
    STEPS,
    PictureRequest,
    input_head,
)
from raymart_marketplace.gateway.openai_body import decode_body
from raymart_marketplace.gateway.provider_object import ProviderObject, routing_preference
from raymart_marketplace.routing.preference import NO_PREFERENCE

Ignored = Raw | UnsetType
STEPS_OF_QUALITY: Mapping[str, int] = MappingProxyType(
    {"auto": STEPS, "standard": STEPS, "low": 10, "medium": STEPS, "high": 40, "hd": 40}
)
"""Denoising steps, unless the request names them."""
_NAMES: Mapping[str, str] = MappingProxyType({"width": "size", "height": "size", "count": "n"})
"""What our fields are called here."""
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


class GenerationBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body; `None` is what a client sends for "not set"."""

    prompt: str
    model: str
    n: int | None = None
    size: str | None = None
    quality: str | None = None
    response_format: str | None = None
    output_format: str | None = None
    stream: bool | None = None
    background: str | None = None
    provider: ProviderObject | None = None
    timeout: float | None = None
    """Seconds that the client waits; `x-raymart-deadline-ms` says the same."""

    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None

    # OpenAI's, without effect here.
    moderation: Ignored = UNSET
    output_compression: Ignored = UNSET
    partial_images: Ignored = UNSET
    style: Ignored = UNSET
    user: Ignored = UNSET


class EditFields(GenerationBody, forbid_unknown_fields=True, gc=False):
    """What a form of an edit has beside its files; numbers come as text."""

    strength: float | None = None
    input_fidelity: Ignored = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedImages:
    """A request, and how its answer is to be written."""

    request: PictureRequest
    stream: bool
    as_url: bool
    """Whether pictures are kept and answered as URLs."""
    object: Literal["image_generation", "image_edit"]
    """Begins the names of a stream's events."""
    timeout_s: float | None
    """How long the client waits, as the body says; None where it does not."""


_decode_generation = msgspec.json.Decoder(GenerationBody).decode


def parse_generation(body: bytes) -> ParsedImages:
    """Read the body of a generation. Raises: InvalidRequest."""
    fields = decode_body(body, _decode_generation, fields=GenerationBody.__struct_fields__)
    width, height = _size(fields.size) or (SIDE_PIXELS, SIDE_PIXELS)
    return _parsed(fields, _request(fields, width=width, height=height), "image_generation")


async def parse_edit(body: bytes, content_type: bytes | None) -> ParsedImages:
    """Read the form of an edit. Masks are made in a thread. Raises: InvalidRequest."""
    files, fields = _edit_fields(read_form(body, content_type))
    image = files["image"]
    head = input_head(image, param="image")
    width, height = _size(fields.size) or fitted(head)
    mask = await asyncio.to_thread(_mask, image, files.get("mask"))
    strength = 0.75 if mask is None else 1.0
    request = _request(
        fields,
        width=width,
        height=height,
        image=image,
        mask=mask,
        strength=strength if fields.strength is None else fields.strength,
    )
    return _parsed(fields, request, "image_edit")


def in_openai_names(error: InvalidRequest) -> InvalidRequest:
    """`error` by the name that its field has in the bodies read here, whoever refused it."""
    name = _NAMES.get(error.param or "")
    return error if name is None else InvalidRequest(f"{name}: {error.message}", param=name)


def fitted(head: Head) -> tuple[int, int]:
    """The size nearest to a picture's own that can be made: sides of 8 pixels each, no more than the limits."""
    scale = min(
        1.0, IMAGE_SIDE_PIXELS_MAX / max(head.width, head.height), (IMAGE_PIXELS_MAX / head.pixels) ** 0.5
    )
    width, height = (
        max(SIDE_MULTIPLE, int(side * scale) // SIDE_MULTIPLE * SIDE_MULTIPLE)
        for side in (head.width, head.height)
    )
    return width, height


def _request(fields: GenerationBody, *, width: int, height: int, **pictures: object) -> PictureRequest:
    if fields.background == "transparent":
        raise InvalidRequest("transparent backgrounds are not served; leave it out", param="background")
    if fields.n is not None and not 1 <= fields.n <= IMAGES_MAX:
        raise InvalidRequest(f"n={fields.n} is not between 1 and {IMAGES_MAX}", param="n")
    steps = _steps(fields.quality)
    given = {
        "negative_prompt": fields.negative_prompt,
        "count": fields.n,
        "guidance": fields.guidance,
        "scheduler": fields.scheduler,
        "seed": fields.seed,
        "steps": steps if fields.steps is None else fields.steps,
        "format": _format(fields.output_format),
        **pictures,
    }
    return PictureRequest(
        model=fields.model,
        prompt=fields.prompt,
        width=width,
        height=height,
        routing=NO_PREFERENCE if fields.provider is None else routing_preference(fields.provider),
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]  # by name
    )


def _parsed(
    fields: GenerationBody, request: PictureRequest, kind: Literal["image_generation", "image_edit"]
) -> ParsedImages:
    wanted = fields.response_format
    if wanted not in {None, "url", "b64_json"}:
        raise InvalidRequest(
            f"response_format {(wanted or '')[:40]!r} is neither 'b64_json' nor 'url'",
            param="response_format",
        )
    return ParsedImages(
        request=request,
        stream=bool(fields.stream),
        as_url=wanted == "url",
        object=kind,
        timeout_s=checked_timeout_s(fields.timeout),
    )


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None or text == "auto":
        return None
    size = _SIZE.fullmatch(text)
    if size is None:
        raise InvalidRequest(f"size {text[:40]!r} is neither 'auto' nor such as '512x512'", param="size")
    return int(size[1]), int(size[2])


def _steps(quality: str | None) -> int | None:
    if quality is None:
        return None
    if quality not in STEPS_OF_QUALITY:
        raise InvalidRequest(
            f"quality {quality[:40]!r} is none of {', '.join(STEPS_OF_QUALITY)}", param="quality"
        )
    return STEPS_OF_QUALITY[quality]


def _format(text: str | None) -> ImageFormat | None:
    if text not in {None, "png", "jpeg", "webp"}:
        raise InvalidRequest(
            f"output_format {(text or '')[:40]!r} is none of png, jpeg, webp", param="output_format"
        )
    return text  # type: ignore[return-value]  # one of them


def _edit_fields(parts: Sequence[Part]) -> tuple[dict[str, bytes], EditFields]:
    """The form's files and its fields. Raises: InvalidRequest."""
    files: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for part in parts:
        name = part.name.removesuffix("[]")
        if name not in {"image", "mask"}:
            texts[name] = part.text()
        elif name in files:
            raise InvalidRequest(f"one {name} can be edited at a time; send one", param=name)
        else:
            files[name] = part.content
    if "image" not in files:
        raise InvalidRequest("image is missing: the picture to edit, as a file of the form", param="image")
    return files, _converted(texts)


def _converted(texts: Mapping[str, str]) -> EditFields:
    """The fields of a form, numbers and truths read from their texts. Raises: InvalidRequest."""
    unknown = next((name for name in texts if name not in EditFields.__struct_fields__), None)
    if unknown is not None:
        raise InvalidRequest(_unknown(unknown), param=unknown)
    missing = next((name for name in ("prompt", "model") if name not in texts), None)
    if missing is not None:
        raise InvalidRequest(f"{missing} is missing", param=missing)
    values: dict[str, object] = {}
    for name, text in texts.items():
        if name in _IGNORED:
            continue
        values[name] = _provider(text) if name == "provider" else text
    try:
        return msgspec.convert(values, EditFields, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the form: {error}".replace("`", "'")[:300]) from None


def _provider(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("provider is no JSON object", param="provider") from None


def _mask(image: bytes, mask: bytes | None) -> bytes | None:
    """White where the picture is to be painted anew: OpenAI says it by transparency, of the mask or the picture.

    A mask without transparency is taken as it is: white is repainted. Blocks. Raises: InvalidRequest.
    """
    from raymart_marketplace.gateway.images.decoding import mask_of_alpha  # noqa: PLC0415 - Pillow's 4 MB

    param = "image" if mask is None else "mask"
    given = image if mask is None else mask
    input_head(given, param=param)
    try:
        drawn = mask_of_alpha(given)
    except ValueError as error:
        raise InvalidRequest(f"{param}: {error}", param=param) from None
    return mask if drawn is None else drawn


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, EditFields.__struct_fields__, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "leave it out"
    return f"unknown field {name[:80]!r}; {hint}"


_IGNORED = frozenset(
    {"moderation", "output_compression", "partial_images", "style", "user", "input_fidelity"}
)
