"""A stand-in for a node agent: takes replicas' registrations on a real port and remembers them."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from raymart_serve.replica.registration import ReplicaRegistration, decode_registration

Wanted = Callable[[ReplicaRegistration], bool]


class ScriptedAgent:
    """Writes its agent file when it starts. A second one on the same file is a restarted agent."""

    def __init__(self, agent_file: Path, *, token: str = "agent-token") -> None:
        self._agent_file = agent_file
        self._token = token
        self._seen = threading.Condition()
        self._registrations: list[ReplicaRegistration] = []
        self.refused = 0
        """Registrations with a wrong token."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        self._agent_file.write_text(json.dumps({"url": url, "token": self._token}))
        self._agent_file.chmod(0o600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def registrations(self) -> list[ReplicaRegistration]:
        """All that came so far, in order."""
        with self._seen:
            return list(self._registrations)

    def forget(self) -> None:
        """Drop what came so far."""
        with self._seen:
            self._registrations.clear()

    def wait_for(self, wanted: Wanted = lambda _: True, *, timeout_s: float = 150.0) -> ReplicaRegistration:
        """The first registration, past or coming, that is `wanted`."""
        with self._seen:
            found = self._seen.wait_for(
                lambda: next((one for one in self._registrations if wanted(one)), None), timeout_s
            )
        if found is None:
            states = [(one.replica_id, one.state) for one in self.registrations]
            raise TimeoutError(f"no such registration within {timeout_s} s; seen {states}")
        return found

    def take(self, authorization: str, path: str, body: bytes) -> int:
        if authorization != f"Bearer {self._token}" or path != "/v1/replicas":
            self.refused += 1
            return 401
        with self._seen:
            self._registrations.append(decode_registration(body))
            self._seen.notify_all()
        return 204


def _handler_of(agent: ScriptedAgent) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(agent.take(self.headers.get("Authorization", ""), self.path, body))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
