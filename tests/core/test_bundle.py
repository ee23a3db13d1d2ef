import pytest

from raymart_core.wire.bundle import pack_bundle, unpack_message
from raymart_core.wire.link import FRAME_BYTES_MAX, FrameType, pack_frame

DATA = pack_frame(FrameType.DATA, 7, b"abc")
END = pack_frame(FrameType.END, 0xFFFF_FFFF)


class TestBundle:
    def test_frames_come_out_as_they_went_in(self):
        assert unpack_message(pack_bundle([DATA, END])) == [
            (FrameType.DATA, 7, b"abc"),
            (FrameType.END, 0xFFFF_FFFF, b""),
        ]

    def test_a_frame_alone_is_a_message_too(self):
        assert unpack_message(DATA) == ((FrameType.DATA, 7, b"abc"),)

    @pytest.mark.parametrize(
        "message",
        [
            pytest.param(pack_bundle([]), id="empty"),
            pytest.param(pack_bundle([DATA])[:-1], id="cut short"),
            pytest.param(pack_bundle([DATA]) + b"\0", id="rest"),
            pytest.param(pack_bundle([pack_bundle([DATA])]), id="nested"),
            pytest.param(pack_bundle([b"\x09\0\0\0\1"]), id="unknown type"),
            pytest.param(pack_bundle([b"\3\0\0\0"]) + b"\0", id="shorter than a header"),
            pytest.param(b"\7\0\0\0\1" + pack_bundle([DATA])[5:], id="on a stream"),
            pytest.param(b"\7\0\0\0\0" + b"\xff\xff\xff\xff" + DATA, id="longer than the message"),
            pytest.param(pack_bundle([bytes(FRAME_BYTES_MAX - 4)]) + b"\0", id="too large"),
        ],
    )
    def test_what_is_no_bundle_is_refused(self, message):
        with pytest.raises(ValueError):  # the sentence differs, that it is refused is the point
            unpack_message(message)
