"""The replica's port, with a real engine behind it and real sockets, some of them hostile."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import IncompleteRead

import msgspec
import pytest

from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import (
    ChatMessage,
    ErrorEvent,
    FinishEvent,
    GenerateRequest,
    Health,
    PromptEvent,
    Sampling,
    Stats,
    StepEvent,
    decode_event,
    encode,
)
from raymart_serve.replica.generation_lines import TOKENS_COLLECTED_MAX
from raymart_serve.replica.http_connection import HttpLimits
from support.replica_client import ReplicaClient, Stream

GREEDY = Sampling(max_tokens=60, temperature=0.0)


def ask(text: str, **sampling: object) -> GenerateRequest:
    values = {"max_tokens": 60, "temperature": 0.0, **sampling}
    return GenerateRequest(
        messages=(ChatMessage(role="user", content=text),), sampling=msgspec.convert(values, Sampling)
    )


def endless(**sampling: object) -> GenerateRequest:
    return ask("Count to 5.", **{"max_tokens": 900, "ignore_eos": True, **sampling})


def stats(client: ReplicaClient) -> Stats:
    return msgspec.json.decode(client.request("GET", "/stats").read(), type=Stats)


def until(holds: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def replica(run_replica):
    return run_replica()


@pytest.fixture
def client(replica) -> Iterator[ReplicaClient]:
    with ReplicaClient(replica.address, replica.secret) as client:
        yield client


def raw(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_all(peer: socket.socket) -> bytes:
    """Everything until the other side closes, also when it closes hard."""
    data = b""
    try:
        while part := peer.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


class TestGenerate:
    def test_events_come_in_the_protocol_s_order(self, client: ReplicaClient) -> None:
        stream = client.generate(ask("What is 7 + 5?"))
        assert stream.status == 200
        assert stream.response.getheader("Content-Type") == "application/x-ndjson"
        events = list(stream.events())
        assert isinstance(events[0], PromptEvent)
        steps = [event for event in events if isinstance(event, StepEvent)]
        assert len(steps) == len(events) - 2
        assert [step.n for step in steps] == [
            len([t for s in steps[: i + 1] for t in s.t]) for i in range(len(steps))
        ]
        finish = events[-1]
        assert isinstance(finish, FinishEvent)
        assert (finish.finish, finish.usage.prompt) == (FinishReason.STOP, len(events[0].ids))
        assert finish.revision.startswith("sha256:")
        assert finish.engine.startswith("llama_cpp ")

    def test_a_connection_serves_one_request_after_another(self, client: ReplicaClient) -> None:
        assert client.generate(ask("ping")).text() == "pong"
        first = client.connection.sock
        assert client.generate(ask("What is 7 + 5?")).text() == "7 + 5 = 12."
        assert client.connection.sock is first

    def test_each_step_is_one_chunk(self, replica) -> None:
        body = encode(ask("What is 7 + 5?"))
        with raw(replica.address) as peer:
            peer.sendall(_head(replica.secret, body) + body)
            data = b""
            while not data.endswith(b"0\r\n\r\n"):
                data += peer.recv(65536)
        chunks = data.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]
        lines = [chunk for chunk in chunks if chunk]
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)

    def test_a_whole_answer_is_one_write_of_known_length(self, replica, client: ReplicaClient) -> None:
        steps = list(client.generate(ask("What is 7 + 5?")).events())
        body = encode(msgspec.structs.replace(ask("What is 7 + 5?"), whole=True))
        with raw(replica.address) as peer:
            peer.sendall(_head(replica.secret, body) + body)
            head, _, content = peer.recv(65536).partition(b"\r\n\r\n")
        assert f"content-length: {len(content)}".encode() in head.lower()
        prompt, step, finish = map(decode_event, content.splitlines())
        assert prompt == steps[0]
        assert isinstance(finish, FinishEvent)
        assert finish.finish is FinishReason.STOP
        assert isinstance(step, StepEvent)
        assert step.d == "".join(each.d for each in steps[1:-1])
        assert step.t == tuple(token for each in steps[1:-1] for token in each.t)
        assert (step.i, step.n, step.exact) == (0, steps[-2].n, True)

    def test_a_long_whole_answer_comes_in_a_few_lines(self, client: ReplicaClient) -> None:
        asked = msgspec.structs.replace(endless(max_tokens=300), whole=True)
        steps = [event for event in client.generate(asked).events() if isinstance(event, StepEvent)]
        assert [step.i for step in steps] == list(range(len(steps)))
        assert steps[-1].n == 300
        assert all(len(step.t) < 2 * TOKENS_COLLECTED_MAX for step in steps)
        assert len(steps) < 30

    def test_a_slow_whole_answer_shows_every_second_that_it_lives(self, run_replica, monkeypatch) -> None:
        monkeypatch.setattr("raymart_serve.replica.generation_lines.FLUSH_S", 0.05)
        replica = run_replica(step_delay_ms=20)
        with ReplicaClient(replica.address, replica.secret) as client:
            asked = msgspec.structs.replace(ask("Count to 5.", max_tokens=12, ignore_eos=True), whole=True)
            events = list(client.generate(asked).events())
        steps = [event for event in events if isinstance(event, StepEvent)]
        assert len(steps) > 1
        assert steps[-1].n == 12

    def test_a_peer_that_leaves_a_whole_answer_stops_the_engine(self, run_replica) -> None:
        replica = run_replica(step_delay_ms=20)
        body = encode(msgspec.structs.replace(endless(), whole=True))
        with ReplicaClient(replica.address, replica.secret) as other:
            with raw(replica.address) as peer:
                peer.sendall(_head(replica.secret, body) + body)
                until(lambda: stats(other).running == 1)
            until(lambda: stats(other).running == 0)
            assert stats(other).requests_aborted_total == 1

    def test_prompt_ids_and_resumed_ids_continue_a_generation(self, client: ReplicaClient) -> None:
        events = list(client.generate(ask("What is the capital of Norway?")).events())
        prompt = events[0]
        assert isinstance(prompt, PromptEvent)
        tokens = [token for event in events if isinstance(event, StepEvent) for token in event.t]
        request = GenerateRequest(sampling=GREEDY, prompt_ids=prompt.ids, resume_ids=tuple(tokens[:4]))
        resumed = list(client.generate(request).events())
        # The prompt without what was resumed: both together are what a third endpoint would go on from.
        assert resumed[0] == prompt
        assert [token for event in resumed if isinstance(event, StepEvent) for token in event.t] == tokens[4:]

    def test_plain_prompt_is_taken(self, client: ReplicaClient) -> None:
        prompt = "<|im_start|>user\nping<|im_end|>\n<|im_start|>assistant\n"
        assert client.generate(GenerateRequest(sampling=GREEDY, prompt=prompt)).text() == "pong"

    def test_logprobs_travel(self, client: ReplicaClient) -> None:
        events = list(client.generate(ask("ping", top_logprobs=2)).events())
        step = next(event for event in events if isinstance(event, StepEvent))
        assert step.lp is not None
        assert len(step.lp[0].top) == 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "param"),
        [
            ({"sampling": {"max_tokens": 0}}, "max_tokens"),
            ({"sampling": {"max_tokens": "many"}}, "max_tokens"),
            ({"sampling": {"max_tokens": 1, "temperature": 2.1}}, "temperature"),
            ({"sampling": {"max_tokens": 1, "temperature": -0.1}}, "temperature"),
            ({"sampling": {"max_tokens": 1, "top_p": 0}}, "top_p"),
            ({"sampling": {"max_tokens": 1, "seed": 2**32}}, "seed"),
            ({"sampling": {"max_tokens": 1, "seed": -1}}, "seed"),
            ({"sampling": {"max_tokens": 1, "stop": ["a", "b", "c", "d", "e"]}}, "stop"),
            ({"sampling": {"max_tokens": 1, "stop": [""]}}, "stop"),
            ({"sampling": {"max_tokens": 1, "stop": [7]}}, "stop"),
            ({"sampling": {"max_tokens": 1, "top_logprobs": 21}}, "top_logprobs"),
            ({"sampling": None}, "sampling"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
            ({"messages": [{"role": "user", "content": None}]}, "content"),
            ({"messages": None}, "messages"),
            ({"prompt": "both"}, "prompt"),
            ({"messages": None, "prompt_ids": [1, 99999]}, "prompt_ids"),
            ({"messages": None, "prompt_ids": [1, -5]}, "prompt_ids"),
            ({"messages": None, "prompt_ids": []}, "prompt_ids"),
            ({"messages": [{"role": "user", "content": "long " * 2000}]}, "messages"),
        ],
    )
    def test_a_wrong_field_is_named(
        self, client: ReplicaClient, change: dict[str, object], param: str
    ) -> None:
        body = {"messages": [{"role": "user", "content": "ping"}], "sampling": {"max_tokens": 5}} | change
        kept = {name: value for name, value in body.items() if value is not None}
        response = client.request("POST", "/v1/generate", json.dumps(kept).encode())
        error = json.loads(response.read())
        assert response.status == 400
        assert error["fault"] == "customer"
        assert error["param"] == param
        assert stats(client).running == 0

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}" * 2, b"[" * 10_000]
    )
    def test_a_body_that_is_no_request_is_refused(self, client: ReplicaClient, body: bytes) -> None:
        response = client.request("POST", "/v1/generate", body)
        error = json.loads(response.read())
        assert (response.status, error["fault"]) == (400, "customer")
        assert error["param"] in {"body", "sampling"}

    @pytest.mark.parametrize("deadline", ["0", "-1", "soon", "1e3", "9" * 30])
    def test_a_wrong_deadline_is_refused(self, client: ReplicaClient, deadline: str) -> None:
        assert client.generate(ask("ping"), X_Deadline_Ms=deadline).error().param == "X-Deadline-Ms"

    def test_unknown_path_and_method_are_told(self, client: ReplicaClient) -> None:
        response = client.request("GET", "/v1/models")
        assert (response.status, json.loads(response.read())["fault"]) == (404, "platform")
        response = client.request("GET", "/v1/generate")
        assert response.status == 405
        assert "takes POST, not GET" in json.loads(response.read())["message"]

    def test_a_full_queue_is_503_of_the_provider(self, run_replica) -> None:
        replica = run_replica(slots=1, waiting_max=0, step_delay_ms=20)
        with (
            ReplicaClient(replica.address, replica.secret) as first,
            ReplicaClient(replica.address, replica.secret) as second,
        ):
            events = first.generate(endless()).events()
            next(events)
            stream = second.generate(ask("ping"))
            assert stream.status == 503
            assert stream.error().fault is Fault.PROVIDER


class TestSecret:
    @pytest.mark.parametrize("secret", ["", "wrong", "é"])
    @pytest.mark.parametrize(
        ("method", "path"),
        [("POST", "/v1/generate"), ("GET", "/health"), ("GET", "/stats"), ("POST", "/drain")],
    )
    def test_nothing_answers_without_it(self, replica, method: str, path: str, secret: str) -> None:
        with ReplicaClient(replica.address, replica.secret) as client:
            response = client.request(method, path, b"{}", secret=secret.encode().decode("latin-1"))
            assert response.status == 401
            response.read()
            assert stats(client).capacity == 2
            assert replica.replica.accepting

    def test_a_longer_or_shorter_secret_is_wrong(self, replica) -> None:
        for secret in (replica.secret[:-1], replica.secret + "x"):
            with ReplicaClient(replica.address, secret) as client:
                assert client.request("GET", "/health").status == 401

    def test_a_stranger_s_body_is_not_read(self, replica) -> None:
        with raw(replica.address) as peer:
            peer.sendall(
                b"POST /v1/generate HTTP/1.1\r\nAuthorization: Bearer no\r\nContent-Length: 1000000\r\n\r\n"
            )
            assert read_all(peer).startswith(b"HTTP/1.1 401 ")


class TestHostileInput:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /v1/generate HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/generate HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
    )
    def test_what_is_no_http_is_refused_and_closed(self, replica, data: bytes) -> None:
        with raw(replica.address) as peer:
            peer.sendall(data)
            answer = read_all(peer)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))

    def test_an_endless_head_is_cut_off(self, replica) -> None:
        with raw(replica.address) as peer:
            peer.sendall(b"GET /health HTTP/1.1\r\n")
            sent = 0
            try:
                while sent < 1_000_000:
                    sent += peer.send(b"X-Filler: " + b"x" * 1000 + b"\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert sent < 1_000_000 or b" 431 " in read_all(peer)
            assert b" 200 " not in read_all(peer)

    def test_a_head_just_over_the_limit_in_one_piece_is_refused(self, replica) -> None:
        head = f"GET /health HTTP/1.1\r\nAuthorization: Bearer {replica.secret}\r\nX: {'x' * 17_000}\r\n\r\n"
        with raw(replica.address) as peer:
            peer.sendall(head.encode())
            assert read_all(peer).startswith(b"HTTP/1.1 431 ")

    @pytest.mark.parametrize("announced", [True, False])
    def test_an_oversize_body_is_refused(self, run_replica, *, announced: bool) -> None:
        replica = run_replica(limits=HttpLimits(body_bytes_max=10_000))
        body = b"x" * 20_000
        fields = (
            b"Content-Length: 20000\r\n\r\n" if announced else b"Transfer-Encoding: chunked\r\n\r\n4e20\r\n"
        )
        with raw(replica.address) as peer:
            peer.sendall(
                b"POST /v1/generate HTTP/1.1\r\nAuthorization: Bearer %b\r\n" % replica.secret.encode()
                + fields
            )
            if not announced:
                peer.sendall(body[:15_000])
            assert read_all(peer).startswith(b"HTTP/1.1 413 ")

    def test_a_request_that_never_ends_is_dropped(self, run_replica) -> None:
        replica = run_replica(limits=HttpLimits(request_timeout_s=0.2))
        with raw(replica.address) as peer:
            peer.sendall(b"GET /health HTTP/1.1\r\nHost:")
            assert read_all(peer).startswith(b"HTTP/1.1 408 ")

    def test_pipelining_is_refused(self, replica) -> None:
        one = f"GET /health HTTP/1.1\r\nAuthorization: Bearer {replica.secret}\r\n\r\n".encode()
        with raw(replica.address) as peer:
            peer.sendall(one * 3)
            assert read_all(peer).startswith(b"HTTP/1.1 400 ")

    def test_bytes_during_an_answer_abort_it(self, run_replica) -> None:
        replica = run_replica(step_delay_ms=20)
        body = encode(endless())
        with raw(replica.address) as peer, ReplicaClient(replica.address, replica.secret) as other:
            peer.sendall(_head(replica.secret, body) + body)
            peer.recv(100)
            peer.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            read_all(peer)
            until(lambda: stats(other).running == 0)
            assert stats(other).requests_aborted_total == 1

    def test_a_body_in_single_bytes_is_put_together(self, replica) -> None:
        body = encode(ask("ping"))
        with raw(replica.address) as peer:
            for byte in _head(replica.secret, body) + body:
                peer.sendall(bytes([byte]))
            data = b""
            while not data.endswith(b"0\r\n\r\n"):
                data += peer.recv(65536)
        assert b'"d":"pong"' in data or b'"d":"p' in data

    def test_expect_100_is_answered(self, replica) -> None:
        body = encode(ask("ping"))
        with raw(replica.address) as peer:
            peer.sendall(
                _head(replica.secret, body).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
            )
            assert peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            peer.sendall(body)
            assert peer.recv(15) == b"HTTP/1.1 200 OK"


class TestConnections:
    def test_an_idle_connection_is_kept_and_ends_with_the_replica(self, run_replica) -> None:
        """The node agent holds one: its end tells of the replica's death."""
        replica = run_replica(limits=HttpLimits(request_timeout_s=0.1))
        with raw(replica.address) as peer:
            peer.settimeout(0.5)
            with pytest.raises(TimeoutError):
                peer.recv(1)
            replica.stop()
            peer.settimeout(5)
            assert read_all(peer) == b""

    def test_too_many_connections_cost_the_oldest_stranger(self, run_replica) -> None:
        replica = run_replica(limits=HttpLimits(connections_max=3))
        with ReplicaClient(replica.address, replica.secret) as known:
            assert stats(known).capacity == 2
            strangers = [raw(replica.address) for _ in range(4)]
            # Two fit beside the known one; each further one pushed out the oldest.
            assert read_all(strangers[0]) == b""
            assert read_all(strangers[1]) == b""
            assert stats(known).running == 0
            for stranger in strangers:
                stranger.close()

    def test_without_strangers_one_too_many_is_told(self, run_replica) -> None:
        replica = run_replica(limits=HttpLimits(connections_max=1))
        with ReplicaClient(replica.address, replica.secret) as known:
            assert stats(known).capacity == 2
            with raw(replica.address) as late:
                assert read_all(late).startswith(b"HTTP/1.1 503 ")
            assert stats(known).capacity == 2


class TestAbort:
    @pytest.mark.parametrize("half", [True, False])
    def test_closing_the_connection_aborts_within_a_step(self, run_replica, *, half: bool) -> None:
        replica = run_replica(slots=1, step_delay_ms=30)
        body = encode(endless())
        with ReplicaClient(replica.address, replica.secret) as other:
            peer = raw(replica.address)
            peer.sendall(_head(replica.secret, body) + body)
            while b'"e":"s"' not in peer.recv(65536):
                pass
            assert stats(other).running == 1
            started = time.monotonic()
            if half:
                peer.shutdown(socket.SHUT_WR)
            else:
                peer.close()
            until(lambda: stats(other).running == 0)
            assert time.monotonic() - started < 20
            found = stats(other)
            assert found.requests_aborted_total == 1
            assert found.tokens_generated_total < 40
            peer.close()
            assert other.generate(ask("ping")).text() == "pong"

    def test_leaving_the_queue_frees_the_place(self, run_replica) -> None:
        replica = run_replica(slots=1, waiting_max=1, step_delay_ms=10)
        body = encode(endless())
        with (
            ReplicaClient(replica.address, replica.secret) as first,
            ReplicaClient(replica.address, replica.secret) as other,
        ):
            next(first.generate(endless()).events())
            waiting = raw(replica.address)
            waiting.sendall(_head(replica.secret, body) + body)
            until(lambda: stats(other).waiting == 1)
            waiting.close()
            until(lambda: stats(other).waiting == 0)

    def test_a_deadline_in_the_stream_ends_it_with_an_error_event(self, run_replica) -> None:
        replica = run_replica(step_delay_ms=50)
        with ReplicaClient(replica.address, replica.secret) as client:
            started = time.monotonic()
            events = list(client.generate(endless(), X_Deadline_Ms="300").events())
            assert 0.2 < time.monotonic() - started < 20
            assert isinstance(events[-1], ErrorEvent)
            assert events[-1].fault is Fault.PLATFORM
            assert any(isinstance(event, StepEvent) for event in events)
            until(lambda: stats(client).running == 0)

    def test_a_deadline_in_the_queue_is_503_of_the_provider(self, run_replica) -> None:
        replica = run_replica(slots=1, step_delay_ms=20)
        with (
            ReplicaClient(replica.address, replica.secret) as first,
            ReplicaClient(replica.address, replica.secret) as second,
        ):
            events = first.generate(endless()).events()
            next(events)
            stream = second.generate(ask("ping"), X_Deadline_Ms="100")
            assert stream.status == 503
            assert stream.error().fault is Fault.PROVIDER
            assert stats(second).waiting == 0


class TestSlowReader:
    # Twenty alternatives a token make the answer larger than all buffers between engine and reader.
    LARGE = {"top_logprobs": 20}

    def test_a_slow_reader_holds_the_engine_back_and_gets_everything(self, run_replica) -> None:
        replica = run_replica(limits=HttpLimits(send_buffer_bytes=8192))
        with ReplicaClient(replica.address, replica.secret, receive_bytes=8192) as client:
            events = client.generate(endless(**self.LARGE)).events()
            next(events)
            # The channel is full, so the engine's thread waits, and stays so until this reader goes on.
            until(lambda: _waiting_steps(replica) == 64)
            time.sleep(0.3)
            assert _waiting_steps(replica) == 64
            rest = list(events)
        assert isinstance(rest[-1], FinishEvent)
        assert rest[-1].usage.completion == 900

    def test_a_reader_that_stops_is_cut_off(self, run_replica) -> None:
        replica = run_replica(limits=HttpLimits(send_buffer_bytes=8192, write_timeout_s=0.3))
        with (
            ReplicaClient(replica.address, replica.secret, receive_bytes=8192) as client,
            ReplicaClient(replica.address, replica.secret) as other,
        ):
            next(client.generate(endless(**self.LARGE)).events())
            until(lambda: stats(other).requests_aborted_total == 1)
            until(lambda: stats(other).running == 0)

    def test_one_slow_reader_does_not_hold_up_others(self, run_replica) -> None:
        replica = run_replica(limits=HttpLimits(send_buffer_bytes=8192))
        with (
            ReplicaClient(replica.address, replica.secret, receive_bytes=8192) as slow,
            ReplicaClient(replica.address, replica.secret) as other,
        ):
            next(slow.generate(endless(**self.LARGE)).events())
            started = time.monotonic()
            assert other.generate(ask("ping")).text() == "pong"
            assert time.monotonic() - started < 20


class TestHealthAndDrain:
    def test_health_is_ready(self, client: ReplicaClient) -> None:
        assert msgspec.json.decode(client.request("GET", "/health").read(), type=Health) == Health(
            state="ready"
        )

    def test_stats_count_what_ran(self, client: ReplicaClient) -> None:
        list(client.generate(ask("Count to 5.", max_tokens=3)).events())
        # The slot is free a moment after the last event: its thread has to return first.
        until(lambda: stats(client).running == 0)
        assert stats(client) == Stats(
            running=0, waiting=0, capacity=2, tokens_generated_total=3, requests_aborted_total=0
        )

    def test_drain_refuses_new_and_finishes_what_runs(self, run_replica) -> None:
        replica = run_replica(step_delay_ms=5)
        with (
            ReplicaClient(replica.address, replica.secret) as running,
            ReplicaClient(replica.address, replica.secret) as client,
        ):
            events = running.generate(ask("What is a payout?")).events()
            next(events)
            response = client.request("POST", "/drain")
            assert (response.status, response.read()) == (202, b"")
            stream = client.generate(ask("ping"))
            assert (stream.status, stream.error().fault) == (503, Fault.PROVIDER)
            assert (
                msgspec.json.decode(client.request("GET", "/health").read(), type=Health).state == "draining"
            )
            assert isinstance(list(events)[-1], FinishEvent)

    def test_stop_waits_for_the_running_stream(self, run_replica) -> None:
        replica = run_replica(step_delay_ms=5)
        with ReplicaClient(replica.address, replica.secret) as client:
            events = client.generate(ask("What is a payout?")).events()
            next(events)
            replica.stop(timeout_s=10)
            assert isinstance(list(events)[-1], FinishEvent)

    def test_stop_waits_until_a_slow_reader_has_the_last_byte(self, run_replica) -> None:
        """The answer is complete before it has left: bytes in our own buffer would die with the connection."""
        replica = run_replica()
        generated = 0
        # The first size that the kernel's buffers do not hold, while nobody reads, but they and ours together do.
        for count in range(20, 500, 10):
            client = ReplicaClient(replica.address, replica.secret, receive_bytes=8192)
            body = encode(endless(max_tokens=count, top_logprobs=20))
            client.connection.request(
                "POST", "/v1/generate", body, {"Authorization": f"Bearer {replica.secret}"}
            )
            generated += count
            until(lambda total=generated: _generated(replica) == total and not replica.replica.in_flight)
            if any(one._transport.get_write_buffer_size() for one in replica.replica._server._connections):
                break
            client.connection.close()
        stopping = threading.Thread(target=replica.stop, kwargs={"timeout_s": 20})
        stopping.start()
        time.sleep(0.2)
        events = list(Stream(client.connection.getresponse()).events())
        stopping.join()
        client.connection.close()
        assert isinstance(events[-1], FinishEvent)
        assert events[-1].usage.completion == count

    def test_stop_cuts_off_at_its_timeout(self, run_replica) -> None:
        replica = run_replica(step_delay_ms=50)
        with ReplicaClient(replica.address, replica.secret) as client:
            response = client.generate(endless()).response
            response.readline()
            started = time.monotonic()
            replica.stop(timeout_s=0.2)
            assert time.monotonic() - started < 10
            with pytest.raises((ConnectionError, IncompleteRead)):
                response.read()


def _generated(replica) -> int:
    return replica.replica.stats().tokens_generated_total


def _waiting_steps(replica) -> int:
    """Steps that the engine's thread has handed over and the handler has not taken."""
    return sum(len(events.channel._items) for events in replica.replica.engine._open)


def _head(secret: str, body: bytes) -> bytes:
    return (
        f"POST /v1/generate HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer {secret}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
