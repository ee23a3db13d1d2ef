import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.wire.bundle import unpack_message
from raymart_core.wire.flow import FrameQueue, ReceiveWindow, SendWindow
from raymart_core.wire.link import FRAME_BYTES_MAX, HEADER_BYTES, WINDOW_BYTES, FrameType, pack_frame


class TestWindows:
    @given(st.lists(st.integers(min_value=1, max_value=FRAME_BYTES_MAX), max_size=200), st.randoms())
    def test_whatever_is_read_when_the_sender_never_overruns_and_never_starves(self, sizes, random):
        """Sender and receiver share no state but frames; bytes in flight plus buffered stay within the window."""
        sender, receiver = SendWindow(), ReceiveWindow()
        buffered = 0
        for size in sizes:
            left = size
            while left:
                granted = sender.take(left)
                if granted:
                    receiver.arrived(granted)
                    buffered += granted
                    left -= granted
                if not granted or random.random() < 0.5:
                    # Reading everything must free the sender, or the stream would hang.
                    read = buffered if not granted else random.randint(0, buffered)
                    buffered -= read
                    if read and (credit := receiver.consumed(read)):
                        sender.grant(credit)
                assert 0 <= sender.available <= WINDOW_BYTES
                assert buffered <= WINDOW_BYTES

    def test_a_frame_is_never_larger_than_the_limit(self):
        assert SendWindow().take(10**9) == FRAME_BYTES_MAX

    def test_a_spent_window_gives_nothing(self):
        window = SendWindow()
        while window.take(FRAME_BYTES_MAX):
            pass
        assert window.available == 0

    @pytest.mark.parametrize("byte_count", [-1, 0, 1, WINDOW_BYTES + 1])
    def test_credit_that_was_never_spent_is_refused(self, byte_count):
        with pytest.raises(ValueError, match="credit"):
            SendWindow().grant(byte_count)

    @pytest.mark.parametrize("byte_count", [0, WINDOW_BYTES + 1])
    def test_data_that_is_empty_or_overruns_is_refused(self, byte_count):
        with pytest.raises(ValueError, match="DATA"):
            ReceiveWindow().arrived(byte_count)

    def test_credit_comes_by_half_windows(self):
        window = ReceiveWindow()
        window.arrived(WINDOW_BYTES)
        assert window.consumed(WINDOW_BYTES // 2 - 1) == 0
        assert window.consumed(1) == WINDOW_BYTES // 2
        assert window.outstanding_bytes == WINDOW_BYTES // 2


class TestFrameQueue:
    def test_control_overtakes_data_and_each_keeps_its_order(self):
        queue = FrameQueue()
        for frame in (b"d1", b"d2"):
            queue.push_data(frame)
        for frame in (b"c1", b"c2"):
            assert queue.push_control(frame)
        assert [queue.pop() for _ in range(5)] == [b"c1", b"c2", b"d1", b"d2", None]
        assert len(queue) == 0

    def test_control_is_bounded(self):
        queue = FrameQueue(control_max=1)
        assert queue.push_control(b"c")
        assert not queue.push_control(b"c")

    def test_data_makes_room_as_it_is_written(self):
        queue = FrameQueue(data_bytes_max=4)
        queue.push_data(b"four")
        assert not queue.has_room
        queue.pop()
        assert queue.has_room


class TestBundlesOfAQueue:
    @given(
        st.lists(st.tuples(st.booleans(), st.integers(min_value=0, max_value=FRAME_BYTES_MAX)), max_size=60),
    )
    def test_every_frame_comes_once_in_its_order_and_no_message_is_too_large(self, frames):
        queue, expected = FrameQueue(data_bytes_max=10**9), {True: [], False: []}
        for number, (is_control, size) in enumerate(frames):
            frame = pack_frame(FrameType.RESET if is_control else FrameType.DATA, number, bytes(size))
            queue.push_control(frame) if is_control else queue.push_data(frame)
            expected[is_control].append((number, size))
        seen = {True: [], False: []}
        while (message := queue.pop_message()) is not None:
            assert len(message) <= HEADER_BYTES + FRAME_BYTES_MAX
            for kind, number, payload in unpack_message(message):
                seen[kind is FrameType.RESET].append((number, len(payload)))
        assert seen == expected
        assert queue.has_room

    def test_a_frame_alone_travels_as_it_is(self):
        queue, frame = FrameQueue(), pack_frame(FrameType.END, 7)
        queue.push_data(frame)
        assert queue.pop_message() == frame

    def test_what_was_sent_in_a_bundle_makes_room(self):
        queue = FrameQueue(data_bytes_max=16)
        for _ in range(4):
            queue.push_data(pack_frame(FrameType.DATA, 1, b"x"))
        assert not queue.has_room
        queue.pop_message()
        assert queue.has_room
        assert queue.pop_message() is None
