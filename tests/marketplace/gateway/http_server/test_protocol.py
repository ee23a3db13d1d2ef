"""The HTTP server with an application behind it, over real sockets."""

import asyncio
import socket

import pytest

from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.gateway.http_server import protocol as protocol_module
from support.gateway_market import serving
from support.http_line import Line


class TestRequests:
    async def test_what_was_asked_reaches_the_application(self, dial, application):
        async with dial() as line:
            line.ask("/echo/%C3%A9?a=%20b", "X-Name: Value", method="POST", body=b"hi")
            await line.answer()
        (scope,) = application.asked
        assert scope["method"] == "POST"
        assert scope["path"] == "/echo/é"
        assert scope["raw_path"] == b"/echo/%C3%A9"
        assert scope["query_string"] == b"a=%20b"
        assert scope["http_version"] == "1.1"
        assert (b"x-name", b"Value") in scope["headers"]
        assert scope["client"][0] == "127.0.0.1"

    async def test_an_absolute_target_is_its_path(self, dial, application):
        async with dial() as line:
            line.ask("http://x/echo?q")
            assert (await line.answer())[0] == 200
        assert application.asked[0]["query_string"] == b"q"

    @pytest.mark.parametrize("cuts", [1, 7, 40])
    async def test_a_request_in_any_pieces_is_one_request(self, dial, cuts):
        raw = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        async with dial() as line:
            for at in range(0, len(raw), cuts):
                line.say(raw[at : at + cuts])
                await line.writer.drain()
                await asyncio.sleep(0)
            assert (await line.answer())[2] == b"abcde"

    async def test_a_connection_serves_one_request_after_the_other(self, dial):
        async with dial() as line:
            for number in range(3):
                line.ask("/echo", method="POST", body=b"%d" % number)
                assert (await line.answer())[2] == b"%d" % number

    async def test_requests_ahead_of_their_answers_are_answered_in_order(self, dial):
        async with dial() as line:
            for number in range(40):
                line.ask("/echo", method="POST", body=b"%d" % number)
            assert [(await line.answer())[2] for _ in range(40)] == [b"%d" % number for number in range(40)]

    async def test_too_many_requests_ahead_are_refused_after_those_that_fit(self, dial, monkeypatch):
        monkeypatch.setattr(protocol_module, "AHEAD_IN_ONE_READ_MAX", 3)
        async with dial() as line:
            line.say(b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n" * 6)
            statuses = [(await line.answer())[0] for _ in range(5)]
            assert statuses == [200, 200, 200, 200, 429]
            assert await line.rest() == b""

    async def test_garbage_behind_a_request_does_not_spoil_its_answer(self, dial, application):
        async with dial() as line:
            line.ask("/stream")
            line.say(b"\x00garbage\r\n\r\n")
            await application.reached.wait()
            application.go_on.set()
            assert (await line.answer())[2] == b"onetwothree"
            assert (await line.answer())[0] == 400
            assert await line.rest() == b""

    async def test_a_broken_body_is_refused_and_its_application_told(self, dial, application):
        async with dial() as line:
            line.say(b"POST /waits HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            line.say(b"zz\r\n")
            assert (await line.answer())[0] == 400

    async def test_http_1_0_gets_no_chunks_and_no_second_request(self, dial, application):
        application.go_on.set()
        async with dial() as line:
            line.say(b"GET /stream HTTP/1.0\r\n\r\n")
            status, headers = await line.head()
            assert status == 200
            assert b"transfer-encoding" not in headers
            assert await line.rest() == b"onetwothree"

    async def test_an_upgrade_that_we_do_not_know_is_ignored(self, dial):
        async with dial() as line:
            line.ask(
                "/echo", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", method="POST", body=b"hi"
            )
            assert (await line.answer())[2] == b"hi"
            line.ask("/echo", method="POST", body=b"again")
            assert (await line.answer())[2] == b"again"

    async def test_connect_is_refused(self, dial):
        async with dial() as line:
            line.say(b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n")
            assert (await line.head())[0] == 400

    async def test_who_expects_continue_is_told_when_the_body_is_wanted(self, dial):
        async with dial() as line:
            line.say(b"POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            assert await line.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            line.say(b"ok")
            assert (await line.answer())[2] == b"ok"

    async def test_who_expects_continue_is_told_nothing_when_it_is_not(self, dial):
        async with dial() as line:
            line.say(
                b"POST /asks-first HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
            )
            assert (await line.answer())[0] == 413

    async def test_a_body_that_nobody_reads_does_not_fill_memory_and_the_next_request_is_served(self, dial):
        async with dial() as line:
            line.ask("/asks-first", method="POST", body=b"x" * 500_000)
            assert (await line.answer())[0] == 413
            line.ask("/echo", method="POST", body=b"next")
            assert (await line.answer())[2] == b"next"

    async def test_a_body_that_is_not_taken_is_not_read(self, dial, application):
        """The socket's buffers hold a few MB; the rest stays with the client."""
        async with dial() as line:
            line.say(b"POST /waits-or-answers HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
            await application.reached.wait()
            line.say(b"x" * 30_000_000)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await line.writer.drain()
            application.go_on.set()
            assert (await line.answer())[0] == 200


class TestAnswers:
    async def test_a_whole_answer_is_one_write(self, dial):
        """What arrives first is everything, so a client reads once."""
        async with dial() as line:
            line.ask("/echo", method="POST", body=b"hello")
            first = await line.reader.read(65_536)
            assert first.endswith(b"\r\n\r\nhello")

    async def test_a_stream_is_chunked_and_its_head_travels_with_the_first_piece(self, dial, application):
        async with dial() as line:
            line.ask("/stream")
            first = await line.reader.read(65_536)
            assert b"transfer-encoding: chunked" in first
            assert b"3\r\none\r\n" in first
            application.go_on.set()

    async def test_a_stream_that_has_nothing_to_say_yet_sends_its_head(self, dial, application):
        async with dial() as line:
            line.ask("/begins")
            assert (await line.head())[0] == 200
            application.go_on.set()

    async def test_every_answer_has_a_date_and_an_id_of_ours(self, dial):
        async with dial() as line:
            line.ask("/echo", "x-request-id: theirs")
            _, headers, _ = await line.answer()
            assert headers[b"x-request-id"].startswith(b"req_")
            assert headers[b"date"].endswith(b"GMT")
            line.ask("/named")
            assert (await line.answer())[1][b"x-request-id"] == b"req_ours"

    async def test_head_and_204_have_no_body(self, dial):
        async with dial() as line:
            line.ask("/missing", method="HEAD")
            status, headers = await line.head()
            assert (status, headers[b"content-length"]) == (404, b"7")
            line.ask("/nothing")
            status, headers = await line.head()
            assert status == 204
            assert b"transfer-encoding" not in headers
            line.ask("/echo")
            assert (await line.answer())[0] == 200

    @pytest.mark.parametrize(("path", "header"), [("/closes", ()), ("/echo", ("connection: close",))])
    async def test_either_side_may_end_the_connection(self, dial, path, header):
        async with dial() as line:
            line.ask(path, *header)
            _, headers, _ = await line.answer()
            assert headers[b"connection"] == b"close"
            assert await line.rest() == b""

    @pytest.mark.parametrize("path", ["/fails", "/forgets", "/injects"])
    async def test_an_application_that_does_not_answer_is_a_500(self, dial, path):
        async with dial() as line:
            line.ask(path)
            status, headers, _ = await line.answer()
            assert status == 500
            assert b"set-cookie" not in headers
            assert await line.rest() == b""

    @pytest.mark.parametrize("path", ["/fails-late", "/promises-more"])
    async def test_an_answer_that_breaks_off_is_not_taken_for_whole(self, dial, path):
        async with dial() as line:
            line.ask(path)
            everything = await line.rest()
            assert not everything.endswith(b"0\r\n\r\n")
            assert b"short" not in everything

    async def test_a_client_that_does_not_read_is_sent_no_more(self, dial, application, port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
            client.sendall(b"GET /floods HTTP/1.1\r\nhost: x\r\n\r\n")
            sent = -1
            while sent != getattr(application, "sent", 0) or sent <= 0:
                sent = getattr(application, "sent", 0)
                await asyncio.sleep(0.2)
            assert sent < 30_000_000
            assert not application.left.is_set()

    async def test_a_client_that_reads_nothing_for_long_has_left(self, application, port, monkeypatch):
        monkeypatch.setattr(HttpServerProtocol, "unread_timeout_s", 0.1)
        monkeypatch.setattr(HttpServerProtocol, "receipt_timeout_s", 0.1)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /floods HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(20):
                await application.left.wait()


class TestLeaving:
    async def test_the_application_is_told_at_once(self, dial, application):
        async with dial() as line:
            line.ask("/waits", method="POST", body=b"x")
            await application.reached.wait()
        async with asyncio.timeout(30):
            await application.left.wait()

    async def test_requests_that_wait_for_their_turn_are_given_up(self, dial, application):
        async with dial() as line:
            line.ask("/waits")
            line.ask("/echo")
            await application.reached.wait()
        async with asyncio.timeout(30):
            await application.left.wait()
        assert [scope["path"] for scope in application.asked] == ["/waits"]

    async def test_an_idle_connection_is_closed_in_time(self, application, monkeypatch):
        monkeypatch.setattr(HttpServerProtocol, "receipt_timeout_s", 0.05)
        async with serving(application, timeout_keep_alive=0.2) as url:
            line = Line(*await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2])))
            line.ask("/echo")
            assert (await line.answer())[0] == 200
            assert await line.rest() == b""
            line.writer.close()
