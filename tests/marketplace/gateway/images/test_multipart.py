"""Forms in memory."""

import pytest

from raymart_core.errors import InvalidRequest
from raymart_marketplace.gateway.images.multipart import read_form

KIND = b'multipart/form-data; boundary="x y"'
HEAD = b'--x y\r\nContent-Disposition: form-data; name="'


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return (
        b"".join(HEAD + name + b'"\r\n\r\n' + content + b"\r\n" for name, content in parts) + b"--x y--\r\n"
    )


class TestReadForm:
    def test_parts_come_in_their_order_with_every_byte(self):
        content = bytes(range(256)) + b"\r\n--x\r\n\r\n"
        parts = read_form(form((b"a", b""), (b"b", content)), KIND)
        assert [(part.name, part.content) for part in parts] == [("a", b""), ("b", content)]

    def test_names_may_stand_after_a_file_name_and_bare(self):
        body = b'--b\r\ncontent-disposition: form-data; filename="name=no.png"; name=image\r\n\r\nx\r\n--b--'
        assert read_form(body, b"Multipart/Form-Data; boundary=b")[0].name == "image"

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (form((b"a", b"")), None), (form((b"a", b"")), b"application/json"), (form((b"a", b"")), b"multipart/form-data"),
            (b"", KIND), (HEAD + b'a"\r\n\r\nx', KIND), (b"--x y\r\n\r\nx\r\n--x y--", KIND),
            (b"--x y\r\nContent-Disposition: form-data; name=\"a\"\r\n--x y--", KIND), (form(*[(b"a", b"")] * 65), KIND),
        ],
        ids=["no-kind", "json", "no-boundary", "empty", "cut", "no-name", "no-end-of-head", "many"],
    )  # fmt: skip
    def test_what_is_no_whole_form_is_refused(self, body, kind):
        with pytest.raises(InvalidRequest):
            read_form(body, kind)

    def test_a_field_that_is_no_text_says_so(self):
        with pytest.raises(InvalidRequest, match="no text in UTF-8"):
            read_form(form((b"prompt", b"\xff")), KIND)[0].text()
