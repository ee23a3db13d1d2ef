"""Ports of 127.0.0.1 for the parts of a stack."""

import contextlib
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that was free a moment ago. The caller binds it soon and copes with losing the race."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nobody listens on `port` of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier run in TIME_WAIT do not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
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
