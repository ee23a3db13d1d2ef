"""Whole pictures, decoded. Everything here blocks; call it in a thread, for pictures whose heads were read before."""

from io import BytesIO

from PIL import Image

from raymart_core.wire.image import ImageFormat


def decodes(data: bytes, kind: ImageFormat, *, size: tuple[int, int]) -> bool:
    """Whether `data` is one whole picture of `size`. Its head must have been found to say so."""
    try:
        with Image.open(BytesIO(data), formats=(kind.upper(),)) as image:
            image.load()
            found: tuple[int, int] = image.size
        return found == size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False  # What Pillow raises for broken files, of whatever kind.
