import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.units import Fault, FinishReason
from raymart_core.wire import link, replica


class TestFrames:
    @given(
        st.sampled_from(list(link.FrameType)),
        st.integers(min_value=0, max_value=2**32 - 1),
        st.binary(max_size=4_096),
    )
    def test_unpack_reads_what_pack_wrote(self, kind, stream_id, payload):
        assert link.unpack_frame(link.pack_frame(kind, stream_id, payload)) == (kind, stream_id, payload)

    @given(st.binary(max_size=64))
    def test_garbage_is_a_value_error_and_nothing_else(self, message):
        with contextlib.suppress(ValueError):
            link.unpack_frame(message)

    def test_an_oversized_frame_is_refused(self):
        with pytest.raises(ValueError, match="outside"):
            link.unpack_frame(bytes(link.HEADER_BYTES + link.FRAME_BYTES_MAX + 1))

    @given(st.integers(min_value=0, max_value=2**32 - 1))
    def test_credit_round_trips(self, byte_count):
        assert link.unpack_credit(link.pack_credit(byte_count)) == byte_count

    def test_credit_of_another_length_is_refused(self):
        with pytest.raises(ValueError, match="4 bytes"):
            link.unpack_credit(b"123")


class TestControl:
    def test_every_message_round_trips_by_its_tag(self):
        hardware = link.Hardware(hostname="h", cpu_model="c", cpu_count=2, memory_bytes=1)
        for message in (
            link.Enrol(version=1, join_token="t", name="n", public_key=b"k" * 32, hardware=hardware),
            link.Challenge(nonce=b"n" * 32, server="raymart", server_clock_ms=1),
            link.Announce(hardware=hardware, replicas=()),
            link.Heartbeat(clock_ms=1, running={"r": 2}),
            link.Desired(generation=1, placements=()),
            link.GoAway(drain_s=1.0, reason="r"),
        ):
            assert link.decode_control(link.encode(message)) == message

    def test_an_unknown_message_is_an_error(self):
        with pytest.raises(msgspec.ValidationError):
            link.decode_control(msgspec.msgpack.encode({"m": "surprise"}))

    def test_an_unknown_field_is_ignored(self):
        raw = msgspec.msgpack.encode({"m": "proof", "signature": b"s", "later": 1})
        assert link.decode_control(raw) == link.Proof(signature=b"s")

    def test_the_proof_is_bound_to_node_nonce_and_server(self):
        base = {"node_id": "node_1", "nonce": b"n", "server": "raymart", "server_clock_ms": 1}
        transcripts = {link.proof_transcript(**base)}  # type: ignore[arg-type]
        for change in ({"node_id": "node_2"}, {"nonce": b"m"}, {"server": "other"}, {"server_clock_ms": 2}):
            transcripts.add(link.proof_transcript(**{**base, **change}))  # type: ignore[arg-type]
        assert len(transcripts) == 5


class TestReplicaEvents:
    def test_every_event_round_trips_by_its_tag(self):
        for event in (
            replica.PromptEvent(ids=(1, 2)),
            replica.StepEvent(i=0, t=(5, 6), n=2, d="hé", exact=False),
            replica.FinishEvent(
                finish=FinishReason.STOP,
                usage=replica.Usage(prompt=2, completion=2),
                revision="sha256:0",
                engine="e 1",
            ),
            replica.ErrorEvent(message="m", fault=Fault.PROVIDER),
        ):
            assert replica.decode_event(replica.encode(event)) == event

    def test_an_unknown_event_is_an_error(self):
        with pytest.raises(msgspec.ValidationError):
            replica.decode_event(b'{"e":"z"}')
