"""Reading `POST /v1/image`. The gateway checked the same ranges; a replica trusts nobody's checks."""

from raymart_core.wire.image import (
    IMAGE_PIXELS_MAX,
    IMAGE_SIDE_PIXELS_MAX,
    IMAGE_STEPS_MAX,
    IMAGES_MAX,
    ImageRequest,
    decode_image_request,
)
from raymart_serve.engines.protocol import RequestRefused
from raymart_serve.replica.generate_request import UNREADABLE, check_range, refused_body

PROMPT_CHARACTERS_MAX = 16_384
LORAS_MAX = 8
CONTROLS_MAX = 4
SIDE_STEP_PIXELS = 8


def read_image_request(body: bytes) -> ImageRequest:
    """The request in `body`, all ranges checked. Raises: RequestRefused with the field's name."""
    try:
        request = decode_image_request(body)
    except UNREADABLE as error:
        raise refused_body(error) from error
    _check_prompts(request)
    _check_size(request)
    _check_numbers(request)
    _check_inputs(request)
    _check_adapters(request)
    return request


def _check_prompts(request: ImageRequest) -> None:
    for param, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if len(text) > PROMPT_CHARACTERS_MAX:
            raise RequestRefused(
                f"{param} has {len(text)} characters, at most {PROMPT_CHARACTERS_MAX} are taken", param=param
            )


def _check_size(request: ImageRequest) -> None:
    limit = f"a multiple of {SIDE_STEP_PIXELS}, {SIDE_STEP_PIXELS} to {IMAGE_SIDE_PIXELS_MAX}"
    for param, pixels in (("width", request.width), ("height", request.height)):
        holds = SIDE_STEP_PIXELS <= pixels <= IMAGE_SIDE_PIXELS_MAX and pixels % SIDE_STEP_PIXELS == 0
        check_range(param, pixels, holds=holds, limit=limit)
    pixels = request.width * request.height
    check_range("width", pixels, holds=pixels <= IMAGE_PIXELS_MAX, limit=f"{IMAGE_PIXELS_MAX} pixels at most")


def _check_numbers(request: ImageRequest) -> None:
    steps, count, seed = request.steps, request.count, request.seed
    check_range("steps", steps, holds=1 <= steps <= IMAGE_STEPS_MAX, limit=f"1 to {IMAGE_STEPS_MAX}")
    check_range("count", count, holds=1 <= count <= IMAGES_MAX, limit=f"1 to {IMAGES_MAX}")
    check_range("seed", seed, holds=0 <= seed < 2**32, limit="0 to 2**32 - 1")
    check_range("guidance", request.guidance, holds=0 <= request.guidance <= 30, limit="0 to 30")
    check_range("strength", request.strength, holds=0 < request.strength <= 1, limit="above 0, at most 1")


def _check_inputs(request: ImageRequest) -> None:
    for param, value in (("mask", request.mask), ("outpaint", request.outpaint)):
        if value is not None and request.image is None:
            raise RequestRefused(f"{param} needs an image to go with", param=param)
    padding = request.outpaint
    if padding is None:
        return
    sides = (padding.left, padding.top, padding.right, padding.bottom)
    holds = min(sides) >= 0 and max(sides) > 0 and max(sides) < IMAGE_SIDE_PIXELS_MAX
    check_range("outpaint", sides, holds=holds, limit="0 or more on each side, more on at least one")


def _check_adapters(request: ImageRequest) -> None:
    names = [lora.name for lora in request.loras]
    holds = len(names) <= LORAS_MAX and len(set(names)) == len(names)
    check_range("loras", f"{len(names)} LoRAs", holds=holds, limit=f"at most {LORAS_MAX}, each once")
    for lora in request.loras:
        check_range("loras", lora.weight, holds=-4 <= lora.weight <= 4, limit="-4 to 4")
    count = len(request.control)
    check_range(
        "control", f"{count} ControlNets", holds=count <= CONTROLS_MAX, limit=f"at most {CONTROLS_MAX}"
    )
    for control in request.control:
        check_range("control", control.weight, holds=0 <= control.weight <= 4, limit="0 to 4")
        holds = 0 <= control.start < control.end <= 1
        check_range("control", (control.start, control.end), holds=holds, limit="0 <= start < end <= 1")
