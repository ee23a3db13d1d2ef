"""Clients that begin a request and send one byte a second, in a process of their own: `slow_clients.py PORT COUNT LIMIT_S`.

The beginning of the request comes by standard input, the seconds that each connection lived go to standard output as JSON.
One loop over plain sockets, for what shares a machine's cores with the server must not be what makes others wait.
"""

import contextlib
import json
import selectors
import socket
import sys
import time

EVERY_S = 1.0


def main(port: int, count: int, limit_s: float) -> None:
    """Open `count` connections and keep them slow until the server has closed all, or `limit_s` seconds are over."""
    beginning = sys.stdin.buffer.read()
    selector = selectors.DefaultSelector()
    begun: dict[socket.socket, float] = {}
    lives = []
    for _ in range(count):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.setblocking(False)
        begun[peer] = time.monotonic()
        selector.register(peer, selectors.EVENT_READ)
        _send(peer, beginning)
    ends_at = time.monotonic() + limit_s
    due_at = time.monotonic() + EVERY_S
    while begun and (now := time.monotonic()) < ends_at:
        if now >= due_at:
            due_at = now + EVERY_S
            for peer in begun:
                _send(peer, b"x")
        for key, _ in selector.select(max(0.0, due_at - time.monotonic())):
            peer = key.fileobj
            if _has_ended(peer):
                selector.unregister(peer)
                peer.close()
                lives.append(time.monotonic() - begun.pop(peer))
    lives += [limit_s] * len(begun)
    sys.stdout.write(json.dumps(lives))


def _send(peer: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # Closed meanwhile: the next read tells.
        peer.send(data)


def _has_ended(peer: socket.socket) -> bool:
    try:
        return peer.recv(65_536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
