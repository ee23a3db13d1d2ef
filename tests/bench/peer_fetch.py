"""Fetching a 1 GB artifact from another node, checked, against a plain copy of it over loopback.

Both sides of both ways are processes of their own. The plain copy is what `sendfile` into a socket and `recv_into` a
file give, one connection, nothing checked. The fetch is the agent's: artifact server, token, ranges, SHA-256.

    python tests/bench/peer_fetch.py [--mib 1024] [--rounds 5] [--folder /tmp]
"""

import argparse
import hashlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from raymart_core.wire.link import ARTIFACT_PATH
from raymart_core.wire.peer_token import make_peer_token
from raymart_providers.model_cache.artifact_server import ArtifactServer
from raymart_serve.models.fetch import Artifact, fetch
from raymart_serve.models.range_source import RangeSource

MUST = 0.80
REVISION = "sha256:" + "ab" * 32
_CHUNK = 1024 * 1024


def main() -> None:
    options = _parser().parse_args()
    if options.serve:
        _serve(options.serve, Path(options.file))
        return
    with tempfile.TemporaryDirectory(prefix="raymart-bench-", dir=options.folder) as scratch:
        folder = Path(scratch)
        source, sha256 = _make(folder / "source", options.mib)
        ways = {"copy": _Way("copy", source), "fetch": _Way("fetch", source)}
        seconds: dict[str, list[float]] = {"copy": [], "fetch": []}
        try:
            for _ in range(options.rounds):
                for name in ("copy", "fetch"):
                    seconds[name].append(_timed(ways[name], folder, sha256, options.mib))
        finally:
            for way in ways.values():
                way.process.kill()
                way.process.wait()
    copy, fetched = (options.mib / 1024 / statistics.median(seconds[name]) for name in ("copy", "fetch"))
    print(f"loopback copy  {copy:6.2f} GiB/s   {[round(one, 3) for one in seconds['copy']]}")
    print(f"peer fetch     {fetched:6.2f} GiB/s   {[round(one, 3) for one in seconds['fetch']]}")
    print(f"ratio          {fetched / copy:6.2f}         must be at least {MUST}")
    sys.exit(fetched / copy < MUST)


class _Way:
    """A serving process."""

    def __init__(self, kind: str, source: Path) -> None:
        self.kind = kind
        command = [sys.executable, __file__, "--serve", kind, "--file", str(source)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address, self.secret = self.process.stdout.readline().split()


def _timed(way: _Way, folder: Path, sha256: str, mib: int) -> float:
    target = folder / "target"
    target.unlink(missing_ok=True)
    os.sync()  # the disk's own work must not fall into the next measurement
    started = time.perf_counter()
    if way.kind == "copy":
        _copy(way.address, target)
    else:
        token = make_peer_token(way.secret, revision=REVISION, expires_s=int(time.time()) + 600)
        url = f"http://{way.address}{ARTIFACT_PATH}{sha256}"
        fetch(
            Artifact(sha256=sha256, size=mib * _CHUNK),
            [RangeSource(kind="peer", url=url, token=token)],
            partial=folder / "partial",
            target=target,
            cancel=threading.Event(),
        )
    seconds = time.perf_counter() - started
    assert target.stat().st_size == mib * _CHUNK
    return seconds


def _copy(address: str, target: Path) -> None:
    host, _, port = address.rpartition(":")
    buffer = memoryview(bytearray(_CHUNK))
    with socket.create_connection((host, int(port))) as connection, target.open("wb", buffering=0) as file:
        while count := connection.recv_into(buffer):
            file.write(buffer[:count])


def _serve(kind: str, source: Path) -> None:
    if kind == "fetch":
        server = ArtifactServer(lambda _revision, _sha256: source, host="127.0.0.1")
        print(server.start(), server.secret, flush=True)
        threading.Event().wait()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"127.0.0.1:{listener.getsockname()[1]}", "-", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection, source.open("rb") as file:
                connection.sendfile(file)


def _make(path: Path, mib: int) -> tuple[Path, str]:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(mib):
            block = os.urandom(_CHUNK)
            digest.update(block)
            file.write(block)
    return path, digest.hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
