"""Whole pictures, decoded. Everything here blocks; call it in a thread, for pictures whose heads were read before."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Literal

from PIL import Image, ImageChops, ImageFilter, ImageOps

from raymart_core.wire.image import ImageFormat

ResizeMode = Literal["stretch", "crop", "fill"]
FORMATS = ("PNG", "JPEG", "WEBP")


def decodes(data: bytes, kind: ImageFormat, *, size: tuple[int, int]) -> bool:
    """Whether `data` is one whole picture of `size`. Its head must have been found to say so."""
    try:
        with Image.open(BytesIO(data), formats=(kind.upper(),)) as image:
            image.load()
            found: tuple[int, int] = image.size
        return found == size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False  # What Pillow raises for broken files, of whatever kind.


def mask_of_alpha(data: bytes) -> bytes | None:
    """The mask that the transparency of `data` draws, as a PNG: white where it shows through; None when it is opaque.

    Raises: ValueError when it cannot be decoded.
    """
    with _opened(data) as image:
        if not image.has_transparency_data:
            return None
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() == (255, 255):
            return None
        return _png(ImageChops.invert(alpha))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A picture whose head was read before, decoded. Raises: ValueError."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            image.load()
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError("the picture is broken") from error


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def prepared(
    image: bytes,
    mask: bytes | None,
    *,
    size: tuple[int, int],
    mode: ResizeMode,
    blur: tuple[float, float],
    inverted: bool,
) -> tuple[bytes, bytes | None]:
    """A picture and its mask as AUTOMATIC1111 prepares them: both brought to `size`, the mask drawn by transparency if it has any.

    `mode`: "stretch"; "crop": the middle of it; "fill": all of it, with its own blurred edges around. `blur` is the
    standard deviation of the mask's blur in pixels, each way. Source: modules/images.py `resize_image` and
    modules/processing.py `StableDiffusionProcessingImg2Img.init`. Raises: ValueError.
    """
    with _opened(image) as opened:
        painted = _resized(_opaque(opened), size, mode)
    if mask is None:
        return _png(painted), None
    with _opened(mask) as opened:
        drawn = _drawn(opened)
    if inverted:
        drawn = ImageChops.invert(drawn)
    drawn = _resized(drawn, size, mode)
    if any(blur):
        drawn = drawn.filter(ImageFilter.GaussianBlur(blur))
    return _png(painted), _png(drawn)


def _resized(image: Image.Image, size: tuple[int, int], mode: ResizeMode) -> Image.Image:
    if mode == "stretch" or image.size == size:
        return image.resize(size, Image.Resampling.LANCZOS)
    if mode == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    inner = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    canvas = ImageOps.fit(image, size, Image.Resampling.LANCZOS).filter(
        ImageFilter.GaussianBlur(max(size) / 16)
    )
    canvas.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
    return canvas


def _opaque(image: Image.Image) -> Image.Image:
    """In RGB, on white where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _drawn(mask: Image.Image) -> Image.Image:
    """A mask by its transparency when it has any, else by its brightness. Source: modules/processing.py `create_binary_mask`."""
    if mask.has_transparency_data:
        alpha = mask.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            return alpha
    return mask.convert("L")


def parameters_of(data: bytes) -> str:
    """What a picture says of how it was made; empty when it says nothing. Raises: ValueError."""
    with _opened(data) as image:
        said = image.info.get("parameters", "")
    return said if isinstance(said, str) else ""
