"""Ports for the parts of a stack, of 127.0.0.1 unless another address is named."""

import contextlib
import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_SERVERS = range(20_000, 32_000)
"""Above the ports of Ray's workers (10002 to 19999), below those that systems give to outgoing connections: on a busy
machine one of these takes such a port between its choice and its use."""
_TRIES = 100


def free_port() -> int:
    """A port that was free a moment ago. The caller binds it soon and copes with losing the race."""
    for port in random.sample(_SERVERS, _TRIES):
        if is_free(port):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int, *, host: str = LOOPBACK) -> bool:
    """Whether one can listen on `port` of `host`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier run in TIME_WAIT do not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def is_open(port: int) -> bool:
    """Whether somebody accepts connections on `port` of 127.0.0.1 (one attempt, at most 1 s)."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def remembered_port(path: Path) -> int:
    """The port written at `path` while it is free, else a new one, written there for the next start."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        port = int(path.read_text())
        if is_free(port):
            return port
    port = free_port()
    path.write_text(f"{port}\n")
    return port
