from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.wire.link import FRAME_BYTES_MAX, FrameType, Replica, pack_frame
from raymart_marketplace.supply.siblings import wire
from raymart_marketplace.supply.siblings.wire import Announced, Settled, Unpacker, pack, pack_message

NODE = UUID(int=7)


def replica(number):
    return Replica(
        replica_id=f"replica-{number}",
        revision="sha256:" + "ab" * 32,
        model="test/model",
        engine="vllm",
        capacity=4,
        context_length=1024,
        state="ready",
    )


class TestUnpacker:
    @given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.binary(max_size=300))
    def test_frames_come_out_whole_wherever_the_bytes_are_cut(self, cuts, payload):
        frames = [(FrameType.DATA, 3, payload), (FrameType.END, 5, b""), (FrameType.HEAD, 9, payload[:7])]
        data = b"".join(pack(pack_frame(*frame)) for frame in frames)
        unpacker, found = Unpacker(), []
        for cut in (*cuts, len(data)):
            found += unpacker.feed(data[:cut])
            data = data[cut:]
        assert found == frames

    def test_an_announcement_may_be_larger_than_a_frame_of_the_link(self):
        message = Announced(node_id=NODE, replicas=tuple(replica(number) for number in range(1_000)))
        packed = pack_message(message)
        assert len(packed) > FRAME_BYTES_MAX
        ((kind, stream_id, payload),) = Unpacker().feed(packed)
        assert (kind, stream_id, wire.decode_message(payload)) == (FrameType.CONTROL, 0, message)

    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.1\r\n", b"\x00\x00\x00\x05\x63" + bytes(4), b"\x00\x00\x00\x00" + bytes(8)]
    )
    def test_what_is_no_frame_is_refused(self, data):
        with pytest.raises(ValueError, match="a frame of type"):
            Unpacker().feed(data)


class TestMessages:
    def test_one_of_another_version_cannot_be_read(self):
        with pytest.raises(msgspec.MsgspecError):
            wire.decode_message(msgspec.msgpack.encode(["gossip", 1]))

    def test_they_have_tags_and_no_names(self):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(Settled())) == ["settled"]
