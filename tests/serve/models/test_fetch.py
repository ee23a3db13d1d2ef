"""Fetching one artifact over real HTTP from sources that lie, stop, refuse and vanish."""

import contextlib
import hashlib
import random
import socket
import threading

import pytest

from raymart_serve.models.fetch import (
    Artifact,
    FetchCancelled,
    FetchCorrupted,
    FetchFailed,
    FetchLimits,
    fetch,
)
from raymart_serve.models.range_source import RangeSource
from support.range_server import range_server

PIECE = 64 * 1024
CONTENT = random.Random(7).randbytes(10 * PIECE + 17)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LIMITS = FetchLimits(piece_bytes=PIECE, timeout_s=2, backoff_first_s=0.001, backoff_longest_s=0.002)


@pytest.fixture
def origin():
    with range_server({"/a": CONTENT}) as server:
        yield server


@pytest.fixture
def peer():
    with range_server({"/a": CONTENT}) as server:
        yield server


def source(server, kind="origin", **changes):
    return RangeSource(**{"kind": kind, "url": f"{server.url}/a", **changes})


def take(
    tmp_path, *sources, content=CONTENT, sha256=SHA256, cancel=None, arrived=lambda _: None, limits=LIMITS
):
    target = tmp_path / "blobs" / "a"
    fetch(
        Artifact(sha256=sha256, size=len(content)),
        sources,
        partial=tmp_path / "partial" / "a",
        target=target,
        cancel=cancel or threading.Event(),
        arrived=arrived,
        limits=limits,
    )
    return target.read_bytes()


def corrupt(handler, _path, first, last):
    handler.send_part(bytes(len(CONTENT)), first, last)
    return True


class TestFetch:
    def test_each_piece_is_asked_for_once_and_counted_once(self, tmp_path, origin):
        arrived = []
        assert take(tmp_path, source(origin), arrived=arrived.append) == CONTENT
        assert sorted(first for _, first, _, _ in origin.asked) == [PIECE * number for number in range(11)]
        assert sum(arrived) == len(CONTENT)

    def test_the_signed_query_and_the_token_are_sent(self, tmp_path, origin):
        take(tmp_path, source(origin, url=f"{origin.url}/a?sig=x%2Fy&e=1", token="secret"))
        assert {(path, token) for path, _, _, token in origin.asked} == {
            ("/a?sig=x%2Fy&e=1", "Bearer secret")
        }

    def test_an_empty_file_is_not_asked_for(self, tmp_path, origin):
        assert take(tmp_path, source(origin), content=b"", sha256=hashlib.sha256().hexdigest()) == b""
        assert origin.asked == []

    def test_what_an_earlier_fetch_has_got_is_not_asked_for_again(self, tmp_path, origin):
        origin.fault = lambda handler, _path, first, _last: first >= 5 * PIECE and not handler.refuse(404)
        with pytest.raises(FetchFailed):
            take(tmp_path, source(origin))
        before = {first for _, first, _, _ in origin.asked if first < 5 * PIECE}
        assert before == {PIECE * number for number in range(5)}
        origin.fault, origin.asked = None, []
        assert take(tmp_path, source(origin)) == CONTENT
        assert min(first for _, first, _, _ in origin.asked) == 5 * PIECE

    @pytest.mark.parametrize(("wrong", "fails"), [(0, False), (1, True)])
    def test_an_answer_of_200_is_taken_when_it_is_the_whole(self, tmp_path, origin, wrong, fails):
        small = CONTENT[:1000]

        def whole(handler, *_):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(small) + wrong))
            handler.end_headers()
            handler.wfile.write(small + bytes(wrong))
            return True

        origin.fault = whole
        outcome = pytest.raises(FetchFailed, match="answered 200") if fails else contextlib.nullcontext()
        with outcome:
            assert (
                take(tmp_path, source(origin), content=small, sha256=hashlib.sha256(small).hexdigest())
                == small
            )


class TestPeers:
    def test_peers_give_everything_when_they_can(self, tmp_path, peer, origin):
        assert take(tmp_path, source(peer, "peer"), source(origin)) == CONTENT
        assert origin.asked == []

    def test_two_peers_share_the_work(self, tmp_path, peer, origin):
        # Neither answers before the other was asked: alone, a fast one may have given everything by then.
        both = threading.Barrier(2, timeout=10)

        def meet(*_):
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait()
            both.abort()
            return False

        peer.fault = origin.fault = meet
        assert take(tmp_path, source(peer, "peer"), source(origin, "peer")) == CONTENT
        assert peer.asked
        assert origin.asked

    def test_a_peer_that_stops_in_the_middle_is_followed_by_the_origin(self, tmp_path, peer, origin):
        peer.fault = lambda handler, _path, first, last: (
            first >= 3 * PIECE and not handler.cut(CONTENT, first, last)
        )
        assert take(tmp_path, source(peer, "peer"), source(origin)) == CONTENT
        # Of the piece that broke off, only the rest: its beginning has been hashed and must not be written again.
        assert 3 * PIECE < min(first for _, first, _, _ in origin.asked) < 4 * PIECE

    def test_a_peer_that_gave_only_a_wrong_beginning_is_barred_too(self, tmp_path, peer, origin):
        peer.fault = lambda handler, _path, first, last: not handler.cut(bytes(len(CONTENT)), first, last)
        assert take(tmp_path, source(peer, "peer"), source(origin)) == CONTENT
        assert min(first for _, first, _, _ in origin.asked) == 0

    @pytest.mark.timeout(50)
    def test_a_peer_that_does_not_listen_is_not_waited_for(self, tmp_path, origin):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            gone = RangeSource(kind="peer", url=f"http://127.0.0.1:{listener.getsockname()[1]}/a")
        patient = FetchLimits(piece_bytes=PIECE, backoff_first_s=60, backoff_longest_s=60)
        assert take(tmp_path, gone, source(origin), limits=patient) == CONTENT

    def test_a_corrupted_peer_is_barred_and_everything_is_fetched_again(self, tmp_path, peer, origin):
        peer.fault = corrupt
        assert take(tmp_path, source(peer, "peer"), source(origin)) == CONTENT
        assert len(origin.asked) == 11


class TestCorruption:
    def test_one_wrong_bit_is_never_kept(self, tmp_path, origin):
        origin.files["/a"] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
        with pytest.raises(FetchCorrupted, match="came out wrong 3 times"):
            take(tmp_path, source(origin))
        assert not (tmp_path / "blobs" / "a").exists()
        assert list((tmp_path / "partial").iterdir()) == []

    def test_a_damaged_partial_file_is_thrown_away_and_fetched_again(self, tmp_path, origin):
        origin.fault = lambda handler, _path, first, _last: first >= 5 * PIECE and not handler.refuse(404)
        with pytest.raises(FetchFailed):
            take(tmp_path, source(origin))
        with (tmp_path / "partial" / "a").open("r+b") as file:
            file.write(b"damaged")
        origin.fault = None
        arrived = []
        assert take(tmp_path, source(origin), arrived=arrived.append) == CONTENT
        assert sum(arrived) == len(CONTENT)

    @pytest.mark.parametrize(
        "changes",
        [
            {"Content_Range": f"bytes 0-1/{len(CONTENT)}"},
            {"Content_Range": "bytes 0-0/1"},
            {"Content_Encoding": "gzip"},
        ],
        ids=["other range", "other total", "encoded"],
    )
    def test_another_range_or_an_encoding_is_not_taken(self, tmp_path, origin, changes):
        origin.fault = lambda handler, _path, first, last: (
            not handler.send_part(CONTENT, first, last, **changes)
        )
        with pytest.raises(FetchFailed):
            take(tmp_path, source(origin))


class TestFailure:
    def test_a_source_that_recovers_is_used_on(self, tmp_path, origin):
        failing = iter([True] * 3)
        origin.fault = lambda handler, *_: next(failing, False) and not handler.refuse(503)
        assert take(tmp_path, source(origin)) == CONTENT

    def test_a_refused_permission_says_that_a_fresh_one_may_help(self, tmp_path, origin):
        origin.fault = lambda handler, *_: not handler.refuse(403)
        with pytest.raises(FetchFailed) as failure:
            take(tmp_path, source(origin))
        assert failure.value.denied
        assert len(origin.asked) <= LIMITS.workers

    def test_a_redirect_is_not_followed(self, tmp_path, origin, peer):
        def redirect(handler, *_):
            handler.send_response(302)
            handler.send_header("Location", f"{peer.url}/a")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        origin.fault = redirect
        with pytest.raises(FetchFailed, match="answered 302"):
            take(tmp_path, source(origin))
        assert peer.asked == []

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "http:///a", "nothing"])
    def test_only_http_is_spoken(self, tmp_path, url):
        with pytest.raises(FetchFailed):
            take(tmp_path, RangeSource(kind="origin", url=url))

    def test_without_any_source_it_fails_at_once(self, tmp_path):
        with pytest.raises(FetchFailed, match="no source has it"):
            take(tmp_path)

    def test_a_full_disk_is_not_a_source_s_fault(self, tmp_path, origin, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("raymart_serve.models.partial_file.os.pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            take(tmp_path, source(origin))

    def test_a_cancelled_fetch_keeps_what_it_has(self, tmp_path, origin):
        cancel = threading.Event()
        with pytest.raises(FetchCancelled):
            take(tmp_path, source(origin), cancel=cancel, arrived=lambda count: count and cancel.set())
        assert 0 < len(origin.asked) < 11
        origin.asked.clear()
        assert take(tmp_path, source(origin)) == CONTENT
        assert len(origin.asked) < 11

    def test_no_error_shows_a_signature(self, tmp_path, origin):
        origin.fault = lambda handler, *_: not handler.refuse(500)
        with pytest.raises(FetchFailed) as failure:
            take(tmp_path, source(origin, url=f"{origin.url}/a?signature=secret", token="secret"))
        assert "secret" not in str(failure.value) + repr(source(origin, token="secret"))
