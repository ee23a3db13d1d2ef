"""What a picture's first bytes claim."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from raymart_core.wire.image_head import Head, read_head


def saved(kind: str, size: tuple[int, int] = (300, 200), **options: object) -> bytes:
    file = BytesIO()
    Image.new(str(options.pop("mode", "RGB")), size).save(file, kind, **options)
    return file.getvalue()


class TestReadHead:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [("png", {}), ("png", {"mode": "1"}), ("jpeg", {}), ("jpeg", {"progressive": True}), ("jpeg", {"exif": b"Exif\0\0" + b"\xff" * 99}),
         ("webp", {}), ("webp", {"lossless": True}), ("webp", {"mode": "RGBA"})],
        ids=["png", "png-bits", "jpeg", "jpeg-progressive", "jpeg-exif", "webp", "webp-lossless", "webp-alpha"],
    )  # fmt: skip
    def test_real_pictures_are_read(self, kind, options):
        for size in ((300, 200), (1, 1), (2047, 3)):
            assert read_head(saved(kind, size, **options)) == Head(kind, *size)

    def test_an_extended_webp_is_read(self):
        data = b"RIFF\x00\x00\x00\x00WEBPVP8X" + bytes(8) + (8_999).to_bytes(3, "little") * 2 + bytes(20)
        assert read_head(data) == Head("webp", 9_000, 9_000)

    def test_a_bomb_is_only_read_never_opened(self):
        bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1)
        head = read_head(bomb)
        assert head is not None
        assert head.pixels > 2**60

    def test_what_ends_early_or_is_no_picture_is_nothing(self):
        for data in (
            b"",
            b"GIF89a" + bytes(20),
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\0\0\0\0WEBP",
            b"\xff\xd8",
            b"\xff\xd8\x00\x00",
        ):
            assert read_head(data) is None
        for kind in ("png", "jpeg", "webp"):
            whole = saved(kind)
            for length in range(40):
                found = read_head(whole[:length])
                assert found is None or found == Head(kind, 300, 200)  # type: ignore[arg-type]

    def test_a_side_of_nothing_is_nothing(self):
        assert read_head(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 0, 5)) is None

    def test_endless_markers_end(self):
        assert read_head(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000) is None
