"""An object store in a thread: answers Range requests for files in memory, and misbehaves when told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True, eq=False)
class RangeServer:
    """What it has, what it was asked, and what it does wrong. Change `files` and `fault` at any time."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By path with its leading slash, without a query."""
    fault: "Callable[[_Handler, str, int, int], bool] | None" = None
    """Called with handler, path, first and last byte before an answer; True when it has answered itself."""
    asked: list[tuple[str, int, int, str]] = field(default_factory=list)
    """Path with query, first and last byte, Authorization, in the order of arrival."""
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    # The head must not wait for the acknowledgement of the answer before.
    disable_nagle_algorithm = True
    state: RangeServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        first, last = (int(number) for number in self.headers["Range"].removeprefix("bytes=").split("-"))
        self.state.asked.append((self.path, first, last, self.headers.get("Authorization", "")))
        if self.state.fault is not None and self.state.fault(self, path, first, last):
            return
        content = self.state.files.get(path)
        if content is None:
            self.refuse(404)
            return
        self.send_part(content, first, last)

    def send_part(self, content: bytes, first: int, last: int, **changes: str) -> None:
        part = content[first : last + 1]
        headers = {
            "Content-Length": str(len(part)),
            "Content-Range": f"bytes {first}-{last}/{len(content)}",
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        self.send_response(206)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(part)

    def refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def cut(self, content: bytes, first: int, last: int) -> None:
        """Promise all, send half, hang up."""
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(part[: len(part) // 2])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def range_server(files: dict[str, bytes] | None = None) -> Iterator[RangeServer]:
    """Serve `files` on a free loopback port."""
    state = RangeServer(files or {})

    class Handler(_Handler):
        pass

    Handler.state = state
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
