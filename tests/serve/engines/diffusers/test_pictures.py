"""Pictures that come with a request: bombs, odd kinds, frames."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFile

from raymart_core.wire.image import Control, ImageRequest, Padding
from raymart_serve.engines.diffusers.pictures import check_heads, outpainted, read_pictures
from raymart_serve.engines.protocol import RequestRefused
from support.image_engine import png, request


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that decodes to side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side + 7) // 8 + 1) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def webp_bomb(side: int) -> bytes:
    """A WebP of some 90 bytes whose canvas is side x side pixels: Pillow allocates it when it opens the file."""
    file = BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", lossless=True)
    frame = (
        b"".join(number.to_bytes(3, "little") for number in (0, 0, 15, 15, 100))
        + b"\0"
        + file.getvalue()[12:]
    )
    canvas = b"\2\0\0\0" + (side - 1).to_bytes(3, "little") * 2
    chunks = ((b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", frame))
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def asked(**changes: object) -> ImageRequest:
    return request(**{"width": 16, "height": 8, **changes})


class TestCheckHeads:
    @pytest.mark.parametrize("side", [3_000, 9_000, 20_000])
    @pytest.mark.parametrize("param", ["image", "mask", "control[0].image"])
    def test_bomb_is_refused_by_its_head(
        self, side: int, param: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Never decoded: that would take side x side bytes."""
        data = bomb(side)
        changes: dict[str, object] = {"image": png(np.zeros((8, 8)))} if param == "mask" else {}
        changes |= {"control": (Control("edges", data),)} if param.startswith("control") else {param: data}
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
        with pytest.raises(RequestRefused, match="pixels") as caught:
            check_heads(asked(**changes))
        assert caught.value.param == param

    @pytest.mark.parametrize("side", [3_000, 16_000])
    def test_webp_bomb_is_not_even_opened(self, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
        data = webp_bomb(side)
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
        for look in (check_heads, read_pictures):
            with pytest.raises(RequestRefused, match=f"image is {side}x{side}; at most"):
                look(asked(image=data))

    @pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
    def test_other_kinds_are_refused(self, kind: str) -> None:
        """Each decoder is one more thing to break; customers send these three."""
        file = BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind)
        with pytest.raises(RequestRefused, match="no PNG, JPEG or WebP"):
            check_heads(asked(image=file.getvalue()))

    @pytest.mark.parametrize(
        "data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", bytes(100)]
    )
    def test_stubs_are_refused(self, data: bytes) -> None:
        with pytest.raises(RequestRefused, match="no PNG, JPEG or WebP"):
            check_heads(asked(image=data))


class TestReadPictures:
    @pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGB", "RGBA", "CMYK", "I;16"])
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_every_mode_becomes_rgb_of_the_asked_size(self, mode: str, kind: str) -> None:
        file = BytesIO()
        try:
            Image.new(mode, (5, 9)).save(file, kind)
        except (OSError, ValueError):
            return  # this kind has no such mode
        image = read_pictures(asked(image=file.getvalue())).image
        assert image is not None
        assert (image.mode, image.size) == ("RGB", (16, 8))

    def test_transparent_becomes_white(self) -> None:
        image = read_pictures(asked(image=png(Image.new("RGBA", (16, 8), (255, 0, 0, 0))))).image
        assert image is not None
        assert image.getpixel((3, 3)) == (255, 255, 255)

    def test_sixteen_bits_are_scaled_and_not_cut_off(self) -> None:
        image = read_pictures(asked(image=png(Image.fromarray(np.full((8, 16), 0x4080, np.uint16))))).image
        assert image is not None
        assert image.getpixel((3, 3)) == (0x40, 0x40, 0x40)

    def test_camera_orientation_is_applied(self) -> None:
        """A phone's upright photo is stored lying, with a note."""
        picture = Image.new("RGB", (8, 16), (0, 0, 0))
        picture.paste((255, 255, 255), (0, 0, 8, 8))
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise by 90 degrees
        file = BytesIO()
        picture.save(file, "PNG", exif=exif)
        image = read_pictures(asked(image=file.getvalue())).image
        assert image is not None
        assert image.getpixel((15, 4)) == (255, 255, 255)
        assert image.getpixel((0, 4)) == (0, 0, 0)

    def test_mask_is_sized_with_its_image(self) -> None:
        mask = np.zeros((16, 32))
        mask[:, 16:] = 255
        pictures = read_pictures(asked(image=png(np.zeros((16, 32, 3))), mask=png(mask)))
        assert pictures.mask is not None
        assert pictures.mask.size == (16, 8)
        assert (pictures.mask.getpixel((0, 0)), pictures.mask.getpixel((15, 7))) == (0, 255)


class TestOutpainted:
    def test_edges_go_on_and_the_border_is_masked(self) -> None:
        image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
        canvas, mask = outpainted(image, None, Padding(left=1, bottom=2))
        assert canvas.size == mask.size == (3, 4)
        assert np.asarray(mask).tolist() == [[255, 0, 0], [255, 0, 0], [255] * 3, [255] * 3]
        assert canvas.getpixel((0, 0)) == canvas.getpixel((1, 0)) == (0, 1, 2)
        assert canvas.getpixel((2, 3)) == canvas.getpixel((2, 1)) == (9, 10, 11)

    def test_mask_inside_is_kept(self) -> None:
        _, mask = outpainted(
            Image.new("RGB", (2, 1)), Image.fromarray(np.array([[0, 255]], np.uint8)), Padding(top=1)
        )
        assert np.asarray(mask).tolist() == [[255, 255], [0, 255]]


class TestFramed:
    def test_grey_mask_mixes(self) -> None:
        mask = np.array([[0] * 8 + [128] * 4 + [255] * 4] * 8)
        pictures = read_pictures(asked(image=png(np.full((8, 16, 3), 200)), mask=png(mask)))
        found = np.asarray(pictures.framed(Image.new("RGB", (16, 8), (100, 100, 100))))[0, :, 0]
        assert found.tolist() == [200] * 8 + [150] * 4 + [100] * 4
