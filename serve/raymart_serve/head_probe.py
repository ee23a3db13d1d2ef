"""Whether a Ray head listens. Ray's own client retries a dead address for minutes."""

import socket
import time

_TIMEOUT_S = 3.0
_EVERY_S = 0.1


def wait_for_head(host: str, port: str, *, patience_s: float) -> str | None:
    """Return when something listens at `host`:`port`; why that is not so after `patience_s`, None when it is. Blocks."""
    if not port.isdecimal():
        return f"the Ray address must be host:port, not {host + ':' + port!r}"
    deadline = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()
        except OSError as error:
            if time.monotonic() >= deadline:
                return f"no Ray head listens at {host}:{port} ({error}); start it first"
        else:
            return None
        time.sleep(_EVERY_S)
