import socket
import threading
import time

from raymart_serve.head_probe import wait_for_head


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestWaitForHead:
    def test_one_that_is_late_is_waited_for(self) -> None:
        port, late = closed_port(), socket.socket()
        late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        late.bind(("127.0.0.1", port))
        timer = threading.Timer(0.3, late.listen)
        timer.start()
        try:
            began_at = time.monotonic()
            assert wait_for_head("127.0.0.1", str(port), patience_s=30) is None
            assert 0.3 <= time.monotonic() - began_at < 30
        finally:
            timer.join()
            late.close()

    def test_one_that_does_not_come_is_given_up(self) -> None:
        port, began_at = closed_port(), time.monotonic()
        problem = wait_for_head("127.0.0.1", str(port), patience_s=0.3)
        assert problem is not None
        assert f"no Ray head listens at 127.0.0.1:{port}" in problem
        assert time.monotonic() - began_at >= 0.3
