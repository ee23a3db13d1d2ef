"""Pictures that come with a request, and what is kept of them: decoded within limits, sized, framed."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from raymart_core.wire.image import IMAGE_PIXELS_MAX, ImageRequest, Padding
from raymart_core.wire.image_head import read_head
from raymart_serve.engines.protocol import RequestRefused

INPUT_PIXELS_MAX = 2 * IMAGE_PIXELS_MAX
"""Of a picture as it comes; the result's own limits are lower."""
_FORMATS = ("PNG", "JPEG", "WEBP")
_BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises for broken files, of whatever kind."""
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The request's pictures, all as large as the result."""

    image: Image.Image | None = None
    """RGB."""
    mask: Image.Image | None = None
    """L; white is repainted."""
    control: tuple[Image.Image, ...] = ()
    """RGB, one for each of the request's controls."""

    def framed(self, made: Image.Image) -> Image.Image:
        """`made` where the mask is white, the input picture, pixel for pixel, where it is black."""
        if self.image is None or self.mask is None:
            return made
        return Image.composite(made, self.image, self.mask)


def check_heads(request: ImageRequest) -> None:
    """Look at the pictures' heads only: kind and size. Raises: RequestRefused."""
    for param, data in _inputs(request):
        _check_head(data, param)


def read_pictures(request: ImageRequest) -> Pictures:
    """Decode all pictures of `request` and bring them to its size. Blocking. Raises: RequestRefused."""
    size = (request.width, request.height)
    control = tuple(
        _sized(_rgb(one.image, f"control[{index}].image"), size) for index, one in enumerate(request.control)
    )
    if request.image is None:
        return Pictures(control=control)
    image = _rgb(request.image, "image")
    mask = None if request.mask is None else _mask(request.mask)
    if mask is not None and mask.size != image.size:
        raise RequestRefused(
            f"the mask is {_by(mask.size)} and the image {_by(image.size)}; both must be of one size",
            param="mask",
        )
    if request.outpaint is not None:
        image, mask = outpainted(image, mask, request.outpaint)
        if image.size != size:
            raise RequestRefused(
                f"the image with its padding is {_by(image.size)}, asked for is {_by(size)}", param="outpaint"
            )
    if mask is not None:
        mask = mask.resize(size, Image.Resampling.BILINEAR)
    return Pictures(image=_sized(image, size), mask=mask, control=control)


def outpainted(
    image: Image.Image, mask: Image.Image | None, padding: Padding
) -> tuple[Image.Image, Image.Image]:
    """A canvas with `image` inside `padding`, and the mask of what is to be painted.

    The canvas repeats the picture's edges: where the painting starts from it, it starts with the right colours.
    """
    edges = ((padding.top, padding.bottom), (padding.left, padding.right))
    canvas = np.pad(np.asarray(image), (*edges, (0, 0)), mode="edge")
    inside = np.zeros((image.height, image.width), np.uint8) if mask is None else np.asarray(mask)
    return Image.fromarray(canvas), Image.fromarray(np.pad(inside, edges, constant_values=255))


def _inputs(request: ImageRequest) -> list[tuple[str, bytes]]:
    pictures = [("image", request.image), ("mask", request.mask)]
    pictures += [(f"control[{index}].image", one.image) for index, one in enumerate(request.control)]
    return [(param, data) for param, data in pictures if data is not None]


def _check_head(data: bytes, param: str) -> None:
    """Believe a picture's size only as far as it is taken. Raises: RequestRefused."""
    head = read_head(data)
    if head is None:
        raise RequestRefused(f"{param} is no PNG, JPEG or WebP picture", param=param)
    if head.pixels > INPUT_PIXELS_MAX:
        raise RequestRefused(
            f"{param} is {_by((head.width, head.height))}; at most {INPUT_PIXELS_MAX} pixels are taken",
            param=param,
        )


def _decoded(data: bytes, param: str) -> Image.Image:
    _check_head(data, param)  # Of a WebP, opening alone allocates what its head claims, twice.
    try:
        image: Image.Image = Image.open(BytesIO(data), formats=_FORMATS)
        image.load()
    except _BROKEN as error:
        raise RequestRefused(f"{param} is broken: {error}", param=param) from error
    if image.mode.startswith("I"):
        # Sixteen bits a pixel: the library's own conversion would cut off at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image


def _rgb(data: bytes, param: str) -> Image.Image:
    image = ImageOps.exif_transpose(_decoded(data, param))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    ground = Image.new("RGB", image.size, _WHITE)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def _mask(data: bytes) -> Image.Image:
    return _decoded(data, "mask").convert("L")


def _sized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
