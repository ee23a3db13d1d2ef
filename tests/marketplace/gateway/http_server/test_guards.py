"""Each guard of a connection alone: bytes and time come by hand, so that nothing depends on sockets' buffers or on speed."""

import asyncio
import re

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.gateway.http_server import protocol as protocol_module

GET = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n"
KEEP_ALIVE_S = 1_000
RECEIPT_S = HttpServerProtocol.receipt_timeout_s


class Clock:
    """A loop whose time stands still unless it is told to go on."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self._now

    def create_task(self, work):
        return asyncio.get_running_loop().create_task(work)

    def call_later(self, delay_s, callback):
        timer = asyncio.TimerHandle(self._now + delay_s, callback, (), asyncio.get_running_loop())
        self._timers.append(timer)
        return timer

    def go_on(self, seconds: float) -> None:
        """Let time pass, and call what is due in between."""
        end = self._now + seconds
        while due := [timer for timer in self._timers if not timer.cancelled() and timer.when() <= end]:
            first = min(due, key=lambda timer: timer.when())
            self._timers.remove(first)
            self._now = max(self._now, first.when())
            first._run()
        self._now = end


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and says what was asked of it."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.written = b""
        self.reads = True
        self.half_closed = self.closed = False

    def write(self, data) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


class Connection:
    """A protocol between a wire and an application."""

    def __init__(self, application) -> None:
        self.wire, self.clock = Wire(), Clock()
        config = Config(application, timeout_keep_alive=KEEP_ALIVE_S, lifespan="off", log_config=None)
        config.load()
        self.protocol = HttpServerProtocol(config, ServerState(), {}, self.clock)
        self.protocol.connection_made(self.wire)

    async def say(self, *reads: bytes) -> None:
        """Each is one read; then whoever can go on does."""
        for data in reads:
            self.protocol.data_received(data)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def statuses(self) -> list[bytes]:
        """Of the answers that were written."""
        return re.findall(rb"HTTP/1\.1 ([0-9]{3})", self.wire.written)


@pytest.fixture
async def connection(application):
    made = Connection(application)
    yield made
    application.go_on.set()
    made.protocol.connection_lost(None)
    await made.settle()


class TestReceipt:
    async def test_a_silent_connection_ends_with_the_first_deadline(self, connection):
        connection.clock.go_on(RECEIPT_S - 1)
        assert not connection.wire.closed
        connection.clock.go_on(2)
        assert connection.wire.closed

    async def test_a_later_request_has_a_deadline_from_its_first_byte(self, connection):
        await connection.say(GET % b"echo")
        connection.clock.go_on(100)
        await connection.say(b"GET /echo HTT")
        connection.clock.go_on(RECEIPT_S - 1)
        assert not connection.wire.closed
        connection.clock.go_on(RECEIPT_S)
        assert connection.wire.closed

    async def test_a_body_that_drips_does_not_move_the_deadline(self, connection):
        await connection.say(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n")
        for _ in range(int(2 * RECEIPT_S)):
            await connection.say(b"x")
            connection.clock.go_on(1)
        assert connection.wire.closed

    async def test_time_stands_still_while_we_do_not_read(self, connection, application):
        await connection.say(b"POST /waits-or-answers HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        await connection.say(b"x" * 70_000)
        assert not connection.wire.reads
        connection.clock.go_on(10 * RECEIPT_S)
        assert not connection.wire.closed
        application.go_on.set()
        await connection.settle()
        assert connection.wire.reads

    async def test_an_idle_connection_ends_after_its_keep_alive_and_not_before(self, connection):
        await connection.say(GET % b"echo")
        connection.clock.go_on(KEEP_ALIVE_S - 1)
        assert not connection.wire.closed
        connection.clock.go_on(RECEIPT_S + 2)
        assert connection.wire.closed

    async def test_a_long_answer_has_no_deadline(self, connection):
        await connection.say(GET % b"begins")
        connection.clock.go_on(10 * KEEP_ALIVE_S)
        assert not connection.wire.closed


class TestAhead:
    async def test_so_many_requests_wait_and_then_nothing_is_read(self, connection, application, monkeypatch):
        monkeypatch.setattr(protocol_module, "AHEAD_MAX", 2)
        await connection.say(GET % b"waits-or-answers", GET % b"echo", GET % b"echo")
        assert connection.wire.reads
        await connection.say(GET % b"echo")
        assert not connection.wire.reads
        application.go_on.set()
        await connection.settle()
        assert connection.wire.reads
        assert connection.statuses == [b"200"] * 4

    async def test_they_are_answered_one_after_the_other_in_their_order(self, connection, application):
        await connection.say(GET % b"waits-or-answers", GET % b"missing", GET % b"nothing")
        assert [scope["path"] for scope in application.asked] == ["/waits-or-answers"]
        application.go_on.set()
        await connection.settle()
        assert connection.statuses == [b"200", b"404", b"204"]

    async def test_a_refusal_comes_after_the_answers_to_what_came_before(self, connection, application):
        await connection.say(GET % b"waits-or-answers", GET % b"missing", b"\x00\r\n\r\n")
        assert connection.statuses == []
        application.go_on.set()
        await connection.settle()
        assert connection.statuses == [b"200", b"404", b"400"]

    async def test_one_that_breaks_off_ahead_is_refused_and_never_served(self, connection, application):
        chunked = b"POST /missing HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        await connection.say(GET % b"waits-or-answers", chunked, b"zz\r\n")
        application.go_on.set()
        await connection.settle()
        assert connection.statuses == [b"200", b"400"]
        assert [scope["path"] for scope in application.asked] == ["/waits-or-answers"]

    async def test_one_that_waits_when_its_client_leaves_is_never_begun(self, connection, application):
        await connection.say(GET % b"waits-or-answers", GET % b"echo")
        connection.protocol.connection_lost(None)
        application.go_on.set()
        await connection.settle()
        assert [scope["path"] for scope in application.asked] == ["/waits-or-answers"]


class TestRefusal:
    async def test_what_follows_is_dropped_unread_and_the_end_comes_soon(self, connection, application):
        await connection.say(b"nonsense\r\n\r\n", GET % b"echo")
        assert (connection.statuses, application.asked) == ([b"400"], [])
        assert connection.wire.half_closed
        assert not connection.wire.closed  # A reset would take the answer with it.
        connection.clock.go_on(protocol_module.LINGER_S + 0.1)
        assert connection.wire.closed

    async def test_an_answer_that_has_begun_is_not_followed_by_another(self, connection, application):
        await connection.say(b"POST /begins HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        assert connection.statuses == [b"200"]
        await connection.say(b"zz\r\n")
        assert connection.statuses == [b"200"]
        assert connection.wire.half_closed

    async def test_the_application_hears_that_its_client_broke_off(self, connection, application):
        await connection.say(
            b"POST /waits-for-all HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"zz\r\n"
        )
        assert application.left.is_set()

    async def test_connect_is_400_at_once(self, connection, application):
        await connection.say(b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n")
        assert (connection.statuses, application.asked) == ([b"400"], [])


class TestHeads:
    async def test_the_body_before_it_does_not_count(self, connection):
        """The read that ends a large body may begin the next head."""
        size = HttpServerProtocol.head_bytes_max
        await connection.say(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (size + 1))
        await connection.say(b"x" * (size + 1) + b"GET /missing HTTP/1.1\r\nhost")
        await connection.say(b": x\r\n\r\n")
        assert connection.statuses == [b"200", b"404"]

    async def test_a_message_before_it_in_the_same_read_does_not_count(self, connection):
        size = HttpServerProtocol.head_bytes_max + 1
        whole = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
        await connection.say(whole + b"GET /missing HTTP/1.1\r\nhost", b": x\r\n\r\n")
        assert connection.statuses == [b"200", b"404"]

    async def test_each_head_counts_for_itself(self, connection):
        part = b"GET /missing HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * (HttpServerProtocol.head_bytes_max // 2)
        for _ in range(3):
            await connection.say(part, b"\r\n\r\n")
        assert connection.statuses == [b"404"] * 3

    @pytest.mark.parametrize("connection_header", [b"", b"connection: keep-alive\r\n"])
    async def test_http_1_0_has_one_request_to_a_connection(self, connection, connection_header):
        await connection.say(b"GET /echo HTTP/1.0\r\n" + connection_header + b"\r\n")
        assert b"connection: close\r\n" in connection.wire.written
        assert connection.wire.closed

    async def test_http_1_0_is_not_told_to_continue(self, connection):
        await connection.say(b"POST /echo HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert connection.wire.written == b""

    async def test_nobody_is_told_to_continue_after_the_answer(self, connection, application):
        await connection.say(
            b"POST /answers-then-reads HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
        assert connection.statuses == [b"200"]

    async def test_a_websocket_waits_for_no_answer(self, connection, application):
        """One that comes behind a request is answered in HTTP: two cannot share the connection."""
        wish = b"GET /missing HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        await connection.say(GET % b"waits-or-answers" + wish)
        application.go_on.set()
        await connection.settle()
        assert connection.statuses == [b"200", b"404"]

    async def test_a_websocket_is_wished_for_alone(self, connection):
        wish = b"upgrade: websocket\r\nupgrade: h2c\r\n"
        await connection.say(b"GET /missing HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n" + wish + b"\r\n")
        assert connection.statuses == [b"404"]


class TestWriting:
    async def test_the_application_waits_while_the_client_does_not_read(self, connection, application):
        connection.protocol.pause_writing()
        await connection.say(GET % b"stream")
        assert (connection.statuses, application.reached.is_set()) == ([], False)
        connection.protocol.resume_writing()
        await connection.settle()
        assert (connection.statuses, application.reached.is_set()) == ([b"200"], True)
        connection.protocol.pause_writing()
        application.go_on.set()
        await connection.settle()
        assert b"three" not in connection.wire.written
        connection.protocol.resume_writing()
        await connection.settle()
        assert b"three" in connection.wire.written

    async def test_who_waits_for_a_client_that_leaves_goes_on(self, connection, application):
        connection.protocol.pause_writing()
        await connection.say(GET % b"stream")
        connection.protocol.connection_lost(None)
        await connection.settle()
        assert application.reached.is_set()
        assert connection.statuses == []

    async def test_a_client_that_reads_nothing_for_long_has_left(self, connection):
        await connection.say(GET % b"begins")
        connection.protocol.pause_writing()
        connection.clock.go_on(HttpServerProtocol.unread_timeout_s - 1)
        assert not connection.wire.closed
        connection.clock.go_on(RECEIPT_S + 2)
        assert connection.wire.closed

    async def test_the_application_is_told_at_once_that_its_client_left(self, connection, application):
        await connection.say(GET % b"waits")
        connection.protocol.connection_lost(None)
        await connection.settle()
        assert application.left.is_set()


class TestDraining:
    async def test_a_request_that_has_begun_to_come_keeps_its_time(self, connection):
        await connection.say(b"GET /missing HTTP/1.1\r\nho")
        connection.protocol.shutdown()
        connection.clock.go_on(RECEIPT_S - 1)
        assert not connection.wire.closed
        await connection.say(b"st: x\r\n\r\n")
        assert connection.statuses == [b"404"]
        assert connection.wire.closed

    async def test_a_connection_that_says_nothing_has_a_moment(self, connection):
        connection.protocol.shutdown()
        assert not connection.wire.closed
        connection.clock.go_on(protocol_module.SILENCE_S + 0.1)
        assert connection.wire.closed

    async def test_what_waits_for_its_turn_is_answered_and_the_last_says_that_it_is(
        self, connection, application
    ):
        await connection.say(GET % b"waits-or-answers", GET % b"missing")
        connection.protocol.shutdown()
        application.go_on.set()
        await connection.settle()
        assert connection.statuses == [b"200", b"404"]
        assert connection.wire.written.count(b"connection: close\r\n") == 1
        assert connection.wire.closed
