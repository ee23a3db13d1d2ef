"""Pictures from an engine's replica: `POST /v1/image` takes an `ImageRequest` as JSON, bytes in base64.

The answer is `application/x-ndjson`, one event a line: `ImageProgress` after each denoising step, an `ImageMade` for
each picture, then `ImageFinish` or `ErrorEvent`. Refusals before the first event are those of `wire.replica`. Closing
the connection stops the engine at the next step.

What is billed is the gateway's own count of pixel-steps: width x height x steps really run, of pictures that arrived
whole and as asked for.
"""

from typing import Literal

import msgspec

from raymart_core.wire.replica import ErrorEvent

IMAGE_PATH = "/v1/image"
IMAGE_SIDE_PIXELS_MAX = 2_048
IMAGE_PIXELS_MAX = 4_194_304
IMAGE_STEPS_MAX = 150
IMAGES_MAX = 8
"""Pictures in one request."""
IMAGE_BODY_BYTES_MAX = 32 * 1024 * 1024
"""Of a request with its input pictures in base64."""
IMAGE_LINE_BYTES_MAX = 32 * 1024 * 1024
"""Of one event; the longest carries a picture in base64."""

SCHEDULERS = (
    "DDIM", "DDPM", "DEIS", "DPM++ 2M", "DPM++ 2M Karras", "DPM++ 2M SDE", "DPM++ 2M SDE Karras", "DPM++ SDE",
    "DPM++ SDE Karras", "DPM2", "DPM2 Karras", "DPM2 a", "DPM2 a Karras", "Euler", "Euler Karras", "Euler a", "Heun",
    "LCM", "PLMS", "UniPC",
)  # fmt: skip
"""What `ImageRequest.scheduler` may be, by the names of AUTOMATIC1111."""

ImageFormat = Literal["png", "jpeg", "webp"]


class Padding(msgspec.Struct, frozen=True):
    """Pixels by which outpainting widens the input picture on each side; what is added is painted."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


class Lora(msgspec.Struct, frozen=True):
    """A LoRA of the revision and how strongly it is applied, -4 to 4."""

    name: str
    weight: float = 1.0


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ControlNet of the revision with its conditioning picture, used from `start` to `end` of the steps (0 to 1)."""

    name: str
    image: bytes
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


class ImageRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Pictures of one prompt. With `image` the picture starts from that; with `mask` too only its white is repainted."""

    prompt: str
    width: int
    """Of the result, in pixels: a multiple of 8. With `outpaint` the input's width plus its left and right."""
    height: int
    steps: int
    """Denoising steps of a text-to-image run, 1 to `IMAGE_STEPS_MAX`; from an input picture about steps x strength run."""
    seed: int
    """0 to 2**32 - 1, of the first picture; the one at index k has (seed + k) modulo 2**32, whoever else is in its batch."""
    count: int = 1
    """1 to `IMAGES_MAX`."""
    negative_prompt: str = ""
    guidance: float = 7.0
    """Classifier-free guidance scale, 0 to 30."""
    scheduler: str | None = None
    """By its name in the field, such as "Euler a"; None for the revision's own."""
    image: bytes | None = None
    """PNG, JPEG or WebP; resized to width x height unless it is outpainted."""
    mask: bytes | None = None
    """A picture as large as `image`: white is repainted, black kept."""
    strength: float = 0.75
    """How much of `image` is given up: above 0, at most 1."""
    outpaint: Padding | None = None
    loras: tuple[Lora, ...] = ()
    control: tuple[Control, ...] = ()
    vae: str | None = None
    """Name of one of the revision's other VAEs."""
    format: ImageFormat = "png"


class ImageProgress(msgspec.Struct, frozen=True, tag_field="e", tag="s"):
    """A denoising step is done, of all that the request takes."""

    step: int
    """From 1, over all pictures of the request."""
    of: int


class ImageMade(msgspec.Struct, frozen=True, tag_field="e", tag="i"):
    """One whole picture."""

    index: int
    seed: int
    width: int
    height: int
    steps: int
    """Denoising steps that were run for it."""
    format: ImageFormat
    data: bytes
    parameters: str
    """How it was made, as AUTOMATIC1111 writes it into its pictures ("infotext"); also inside the file."""


class ImageFinish(msgspec.Struct, frozen=True, tag_field="e", tag="f"):
    """Last event of a good stream."""

    pixel_steps: int
    """What the engine counted; the gateway bills its own count and compares."""
    revision: str
    """Manifest digest of the served revision, "sha256:<hex>"."""
    engine: str


ImageEvent = ImageProgress | ImageMade | ImageFinish | ErrorEvent
"""Any line of the answer."""

decode_image_request = msgspec.json.Decoder(ImageRequest).decode
decode_image_event = msgspec.json.Decoder(ImageEvent).decode
