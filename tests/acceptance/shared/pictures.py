"""What other people's clients ask for, and whether it is what they got: coloured shapes on coloured backgrounds."""

from PIL import Image, ImageDraw

MODEL = "raymart/demo-image"
SIDE_PIXELS = 64
STEPS = 20
GUIDANCE = 2.0
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 215, 50),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
}
_NEAR = 60
"""How far, per channel of 255, a colour may be off."""


def check(image: Image.Image, *, middle: str, edge: str) -> None:
    """The picture is of the asked size, and its middle and its corners have these colours."""
    assert image.size == (SIDE_PIXELS, SIDE_PIXELS), image.size
    pixels, far = image.convert("RGB"), SIDE_PIXELS - 3
    for at in ((2, 2), (far, 2), (2, far), (far, far)):
        _check_pixel(pixels, at, edge)
    _check_pixel(pixels, (SIDE_PIXELS // 2, SIDE_PIXELS // 2), middle)


def middle_mask() -> Image.Image:
    """White, which is repainted, over the middle; black, which is kept, around it."""
    mask = Image.new("L", (SIDE_PIXELS, SIDE_PIXELS), 0)
    ImageDraw.Draw(mask).rectangle((8, 8, SIDE_PIXELS - 9, SIDE_PIXELS - 9), fill=255)
    return mask


def hole_in(image: Image.Image) -> Image.Image:
    """`image` with a transparent middle: how OpenAI's API says what is to be repainted."""
    holed = image.convert("RGBA")
    holed.putalpha(middle_mask().point(lambda value: 255 - value))
    return holed


def _check_pixel(pixels: Image.Image, at: tuple[int, int], colour: str) -> None:
    seen, asked = pixels.getpixel(at), COLOURS[colour]
    assert all(abs(a - b) <= _NEAR for a, b in zip(seen, asked, strict=True)), (at, seen, colour, asked)
