"""A Hugging Face hub in small: one model, listed and read in ranges, as slow as a test wants."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
PIECE = 64 * 1024


class Hub:
    """The model `acme/tiny` at one commit."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.lies: dict[str, str] = {}
        """What the hub says instead of a file's SHA-256."""
        self.hold_after: int | None = None
        """Send so many bytes of a large file, and then nothing until `go` is set."""
        self.cut_after: int | None = None
        """Send so many bytes of a large file, then close the connection."""
        self.go = threading.Event()
        self.held = threading.Event()
        """Somebody waits for the rest of a file."""
        self.sent: dict[str, int] = {}
        """Bytes sent, by path."""
        self.ranges: list[tuple[str, str]] = []
        """(path, Range) of the requests that named one."""

    def listing(self) -> dict[str, object]:
        """What `/api/models/acme/tiny?blobs=true` answers."""
        return {
            "_id": "1",
            "id": "acme/tiny",
            "sha": COMMIT,
            "siblings": [
                {
                    "rfilename": path,
                    "size": len(content),
                    "blobId": hashlib.sha1(content).hexdigest(),
                    **(
                        {"lfs": self._lfs(path, content)}
                        if len(content) > 10_000 or path in self.lies
                        else {}
                    ),
                }
                for path, content in self.files.items()
            ],
        }

    def _lfs(self, path: str, content: bytes) -> dict[str, object]:
        sha256 = self.lies.get(path, hashlib.sha256(content).hexdigest())
        return {"sha256": sha256, "size": len(content), "pointerSize": 130}


class _Handler(BaseHTTPRequestHandler):
    """Answers for the hub of its server."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        name = path.removeprefix(f"/acme/tiny/resolve/{COMMIT}/")
        if path.startswith("/api/models/acme/tiny"):
            self._send(200, json.dumps(hub.listing()).encode())
        elif name == path or name not in hub.files:
            self._send(404, b"{}")
        else:
            self._file(name, hub.files[name])

    def _file(self, name: str, content: bytes) -> None:
        hub, wanted, start = self.server.hub, self.headers.get("Range"), 0
        if wanted is not None:
            hub.ranges.append((name, wanted))
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        for at in range(start, len(content), PIECE):
            if len(content) > 10_000 and not self._may_go_on(at):
                self.close_connection = True
                return
            piece = content[at : at + PIECE]
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            hub.sent[name] = hub.sent.get(name, 0) + len(piece)

    def _may_go_on(self, at: int) -> bool:
        hub = self.server.hub
        if hub.hold_after is not None and at >= hub.hold_after:
            hub.held.set()
            hub.go.wait(60)
            hub.hold_after = None
        if hub.cut_after is not None and at >= hub.cut_after:
            hub.cut_after = None
            return False
        return True

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


@contextmanager
def hub_server(files: Mapping[str, bytes]) -> Iterator[tuple[Hub, str]]:
    """The hub and its address."""
    hub = Hub(files)
    server = _Server(hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        hub.go.set()
        server.shutdown()
        server.server_close()
        thread.join()
