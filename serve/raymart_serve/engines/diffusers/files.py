"""A finished picture as a file, with how it was made inside."""

from io import BytesIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from raymart_core.wire.image import ImageFormat

_QUALITY = 95
_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286


def encoded(image: Image.Image, *, form: ImageFormat, parameters: str) -> bytes:
    """`image` as a PNG, JPEG or WebP file. The same picture and parameters give the same bytes. Blocking.

    `parameters` goes where AUTOMATIC1111 puts it: the text chunk "parameters" of a PNG, the EXIF user comment of others
    (Source: modules/images.py `save_image_with_geninfo`).
    """
    file = BytesIO()
    match form:
        case "png":
            info = PngInfo()
            info.add_text("parameters", parameters)
            image.save(file, "PNG", pnginfo=info)
        case "jpeg":
            image.save(file, "JPEG", quality=_QUALITY, exif=_exif(parameters))
        case "webp":
            image.save(file, "WEBP", quality=_QUALITY, exif=_exif(parameters))
    return file.getvalue()


def _exif(parameters: str) -> bytes:
    exif = Image.Exif()
    exif[_EXIF_IFD] = {_USER_COMMENT: b"UNICODE\0" + parameters.encode("utf-16-be", errors="replace")}
    written: bytes = exif.tobytes()
    return written
