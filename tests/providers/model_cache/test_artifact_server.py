"""The node's artifact server over real sockets."""

import contextlib
import socket
import time

import httpx
import pytest

from raymart_core.wire.peer_token import make_peer_token
from raymart_providers.model_cache.artifact_server import ArtifactServer

REVISION = "sha256:" + "ab" * 32
NAME = "cd" * 32
CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def server(tmp_path):
    (tmp_path / "blob").write_bytes(CONTENT)
    looked_up = []

    def lookup(revision, name):
        looked_up.append((revision, name))
        return tmp_path / "blob" if (revision, name) == (REVISION, NAME) else None

    server = ArtifactServer(lookup, host="127.0.0.1")
    server.looked_up = looked_up
    server.address = server.start()
    yield server
    server.stop()


def get(server, *, path=f"/artifacts/{NAME}", token=None, wanted="bytes=0-9", method="GET"):
    token = token or make_peer_token(server.secret, revision=REVISION, expires_s=int(time.time()) + 60)
    headers = {"Authorization": f"Bearer {token}", "Range": wanted}
    return httpx.request(
        method, f"http://{server.address}{path}", headers=headers, trust_env=False, timeout=5
    )


class TestArtifactServer:
    def test_a_range_of_an_artifact_of_the_revision(self, server):
        answer = get(server, wanted="bytes=250-100255")
        assert (answer.status_code, answer.content) == (206, CONTENT[250:100256])
        assert answer.headers["Content-Range"] == f"bytes 250-100255/{len(CONTENT)}"

    def test_connections_are_kept(self, server):
        token = make_peer_token(server.secret, revision=REVISION, expires_s=int(time.time()) + 60)
        ask = (
            f"GET /artifacts/{NAME} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nRange: bytes=1-2\r\n\r\n"
        ).encode()
        with socket.create_connection(server.address.split(":"), timeout=5) as connection:
            connection.sendall(ask + ask)
            answers = b""
            while answers.count(b"\x01\x02") < 2:
                answers += connection.recv(4096)

    @pytest.mark.parametrize("case", ["none", "other node", "expired"])
    def test_without_a_good_token_nothing_is_even_looked_up(self, server, case):
        token = {
            "none": "x",
            "other node": make_peer_token("other", revision=REVISION, expires_s=int(time.time()) + 60),
            "expired": make_peer_token(server.secret, revision=REVISION, expires_s=int(time.time()) - 1),
        }[case]
        assert get(server, token=token).status_code == 401
        assert server.looked_up == []

    def test_a_token_opens_only_its_revision(self, server):
        other = make_peer_token(
            server.secret, revision="sha256:" + "ee" * 32, expires_s=int(time.time()) + 60
        )
        assert get(server, token=other).status_code == 404

    @pytest.mark.parametrize(
        "path", ["/", "/artifacts/", "/artifacts/../x", f"/artifacts/{NAME}/..", "/artifacts/" + "zz" * 32]
    )
    def test_what_is_no_digest_is_not_looked_up(self, server, path):
        with socket.create_connection(server.address.split(":"), timeout=5) as connection:
            token = make_peer_token(server.secret, revision=REVISION, expires_s=int(time.time()) + 60)
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nRange: bytes=0-1\r\n\r\n".encode()
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")
        assert server.looked_up == []

    @pytest.mark.parametrize(
        "wanted", ["", "bytes=5-4", "bytes=0-99999999", "bytes=-5", "bytes=0-1,3-4", "lines=0-1"]
    )
    def test_only_one_plain_range_inside_the_artifact(self, server, wanted):
        assert get(server, wanted=wanted).status_code == 416

    def test_nothing_can_be_put_here(self, server):
        assert get(server, method="DELETE").status_code == 405

    @pytest.mark.parametrize(
        "sent",
        [
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"x" * 20_000,
        ],
        ids=["no request", "a body", "chunked", "endless head"],
    )
    def test_what_is_no_acceptable_request_ends_the_connection(self, server, sent):
        with socket.create_connection(server.address.split(":"), timeout=5) as connection:
            connection.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(4096) == b""
        assert get(server).status_code == 206

    def test_one_connection_too_many_is_closed_and_the_others_go_on(self, server):
        token = make_peer_token(server.secret, revision=REVISION, expires_s=int(time.time()) + 60)
        ask = (
            f"GET /artifacts/{NAME} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nRange: bytes=1-2\r\n\r\n"
        ).encode()
        connections = [socket.create_connection(server.address.split(":"), timeout=5) for _ in range(33)]
        for connection in connections[:32]:
            connection.sendall(ask)
            assert connection.recv(4096).startswith(b"HTTP/1.1 206 ")
        assert connections[32].recv(10) == b""
        for connection in connections:
            connection.close()

    def test_after_stop_nothing_answers(self, server):
        with socket.create_connection(server.address.split(":"), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
            server.stop()
            assert connection.recv(10) == b""
        with pytest.raises(httpx.ConnectError):
            get(server)
