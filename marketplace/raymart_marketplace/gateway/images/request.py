"""What a customer asks of an image model, whatever the surface: checked once, when it is built."""

import math
import secrets
from dataclasses import dataclass, field

from raymart_core.errors import InvalidRequest, PayloadTooLarge
from raymart_core.wire.image import (
    IMAGE_BODY_BYTES_MAX,
    IMAGE_PIXELS_MAX,
    IMAGE_SIDE_PIXELS_MAX,
    IMAGE_STEPS_MAX,
    IMAGES_MAX,
    Control,
    ImageFormat,
    ImageRequest,
    Lora,
    Padding,
)
from raymart_core.wire.image_head import Head, read_head
from raymart_marketplace.catalog.reference import ModelReference, read_reference
from raymart_marketplace.gateway.request import MODEL_CHARACTERS_MAX
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference

SIDE_PIXELS = 512
STEPS = 20
PROMPT_CHARACTERS_MAX = 10_000
NAME_CHARACTERS_MAX = 200
SIDE_MULTIPLE = 8
"""Pixels behind one value of a latent, on each side."""
SEEDS = 2**32
GUIDANCE_MAX = 30.0
WEIGHT_MAX = 4.0
LORAS_MAX = 8
CONTROLS_MAX = 4
INPUT_PIXELS_MAX = 2 * IMAGE_PIXELS_MAX
"""Of a picture as it comes; the result's own limits are lower."""
_TEXT_BYTES = 256 * 1024
"""Room in a body for everything that is no picture: two prompts of four bytes a character, and names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRequest:
    """Pictures of one prompt; the fields mean what they mean in `wire.image.ImageRequest`.

    Raises InvalidRequest or PayloadTooLarge when it cannot be served as it stands, with the field as `param`.
    """

    model: str
    """Slug as the customer wrote it, maybe with a revision after an @."""
    prompt: str
    negative_prompt: str = ""
    width: int = SIDE_PIXELS
    height: int = SIDE_PIXELS
    steps: int = STEPS
    count: int = 1
    seed: int | None = None
    """None for one that is chosen here: it is a number once the request is built."""
    guidance: float = 7.0
    scheduler: str | None = None
    image: bytes | None = None
    mask: bytes | None = None
    strength: float = 0.75
    outpaint: Padding | None = None
    loras: tuple[Lora, ...] = ()
    control: tuple[Control, ...] = ()
    vae: str | None = None
    format: ImageFormat = "png"
    routing: RoutingPreference = NO_PREFERENCE
    reference: ModelReference = field(init=False)
    """`model`, read."""

    def __post_init__(self) -> None:
        if not 0 < len(self.model) <= MODEL_CHARACTERS_MAX:
            raise InvalidRequest(
                f"a model's name has 1 to {MODEL_CHARACTERS_MAX} characters, not {len(self.model)}",
                param="model",
            )
        _check_text(self.model, param="model", characters_max=MODEL_CHARACTERS_MAX)
        object.__setattr__(self, "reference", read_reference(self.model))
        _check_text(self.prompt, param="prompt", characters_max=PROMPT_CHARACTERS_MAX)
        _check_text(self.negative_prompt, param="negative_prompt", characters_max=PROMPT_CHARACTERS_MAX)
        for param, name in (("scheduler", self.scheduler), ("vae", self.vae)):
            if name is not None:
                _check_text(name, param=param, characters_max=NAME_CHARACTERS_MAX)
        if self.seed is None:
            object.__setattr__(self, "seed", secrets.randbelow(SEEDS))
        _check_numbers(self)
        _check_adapters(self)
        _check_pictures(self)

    @property
    def steps_of_each(self) -> int:
        """Denoising steps that one picture may take: from an input picture only their share `strength` is run."""
        if self.image is None:
            return self.steps
        return min(self.steps, max(1, math.ceil(self.steps * self.strength)))

    @property
    def pixel_steps(self) -> int:
        """The most that may be billed."""
        return self.width * self.height * self.steps_of_each * self.count

    def seed_of(self, index: int) -> int:
        """The seed of the picture at `index`."""
        assert self.seed is not None
        return (self.seed + index) % SEEDS

    def wire(self) -> ImageRequest:
        """The request as a replica is asked for it."""
        return ImageRequest(
            prompt=self.prompt,
            width=self.width,
            height=self.height,
            steps=self.steps,
            seed=self.seed_of(0),
            count=self.count,
            negative_prompt=self.negative_prompt,
            guidance=self.guidance,
            scheduler=self.scheduler,
            image=self.image,
            mask=self.mask,
            strength=self.strength,
            outpaint=self.outpaint,
            loras=self.loras,
            control=self.control,
            vae=self.vae,
            format=self.format,
        )


def input_head(data: bytes, *, param: str) -> Head:
    """The claim of a picture that came with a request. Raises: InvalidRequest when it is none, or too large."""
    head = read_head(data)
    if head is None:
        raise InvalidRequest(f"{param} is no PNG, JPEG or WebP picture", param=param)
    if head.pixels > INPUT_PIXELS_MAX:
        raise InvalidRequest(
            f"{param} has {head.width}x{head.height} pixels; the limit is {INPUT_PIXELS_MAX} in all",
            param=param,
        )
    return head


def _check_text(text: str, *, param: str, characters_max: int) -> None:
    if len(text) > characters_max:
        raise InvalidRequest(
            f"{param} has {len(text)} characters; the limit is {characters_max}", param=param
        )
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequest(f"{param} has a lone surrogate; send whole characters", param=param)


def _check_numbers(request: PictureRequest) -> None:
    for param, side in (("width", request.width), ("height", request.height)):
        if not SIDE_MULTIPLE <= side <= IMAGE_SIDE_PIXELS_MAX or side % SIDE_MULTIPLE:
            raise InvalidRequest(
                f"{param}={side} is no multiple of {SIDE_MULTIPLE} from {SIDE_MULTIPLE} to {IMAGE_SIDE_PIXELS_MAX}",
                param=param,
            )
    if request.width * request.height > IMAGE_PIXELS_MAX:
        raise InvalidRequest(
            f"{request.width}x{request.height} has more than {IMAGE_PIXELS_MAX} pixels", param="width"
        )
    assert request.seed is not None
    for param, number, least, most in (
        ("steps", request.steps, 1, IMAGE_STEPS_MAX),
        ("count", request.count, 1, IMAGES_MAX),
        ("seed", request.seed, 0, SEEDS - 1),
        ("guidance", request.guidance, 0, GUIDANCE_MAX),
    ):
        # Written so that NaN is refused too.
        if not least <= number <= most:
            raise InvalidRequest(f"{param}={number} is not between {least} and {most:g}", param=param)
    if not 0 < request.strength <= 1:
        raise InvalidRequest(f"strength={request.strength} is not above 0 and at most 1", param="strength")


def _check_adapters(request: PictureRequest) -> None:
    for param, named, most in (
        ("loras", request.loras, LORAS_MAX),
        ("control", request.control, CONTROLS_MAX),
    ):
        if len(named) > most:
            raise InvalidRequest(f"{len(named)} {param}; the limit is {most}", param=param)
        for one in named:
            _check_text(one.name, param=param, characters_max=NAME_CHARACTERS_MAX)
            if not -WEIGHT_MAX <= one.weight <= WEIGHT_MAX:
                raise InvalidRequest(
                    f"the weight {one.weight} of {one.name[:60]!r} is not between -4 and 4", param=param
                )
    for control in request.control:
        if not 0 <= control.start <= control.end <= 1:
            raise InvalidRequest(
                f"{control.name[:60]!r} is used from {control.start} to {control.end} of the steps; both are 0 to 1, in order",
                param="control",
            )


def _check_pictures(request: PictureRequest) -> None:
    if request.image is None and (request.mask is not None or request.outpaint is not None):
        param = "mask" if request.mask is not None else "outpaint"
        raise InvalidRequest(f"{param} needs an image to work on", param="image")
    for index, control in enumerate(request.control):
        input_head(control.image, param=f"control[{index}].image")
    if request.image is not None:
        _check_input(request, input_head(request.image, param="image"))
    size = sum(len(each) for each in (request.image, request.mask) if each is not None)
    size += sum(len(control.image) for control in request.control)
    if size * 4 // 3 + _TEXT_BYTES > IMAGE_BODY_BYTES_MAX:
        limit = (IMAGE_BODY_BYTES_MAX - _TEXT_BYTES) * 3 // 4
        raise PayloadTooLarge(f"the pictures have {size} bytes; the limit is {limit} in all", param="image")


def _check_input(request: PictureRequest, image: Head) -> None:
    if request.mask is not None:
        mask = input_head(request.mask, param="mask")
        if (mask.width, mask.height) != (image.width, image.height):
            raise InvalidRequest(
                f"the mask is {mask.width}x{mask.height}, the image {image.width}x{image.height}; both must be of one size",
                param="mask",
            )
    padding = request.outpaint
    if padding is None:
        return
    if min(padding.left, padding.top, padding.right, padding.bottom) < 0:
        raise InvalidRequest("outpaint widens: its numbers are 0 or more", param="outpaint")
    width = image.width + padding.left + padding.right
    height = image.height + padding.top + padding.bottom
    if (width, height) != (request.width, request.height):
        raise InvalidRequest(
            f"the image with its padding is {width}x{height}, asked for is {request.width}x{request.height}",
            param="outpaint",
        )
