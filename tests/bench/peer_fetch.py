"""Fetching a 1 GB artifact from another node, checked, against a plain copy of it over loopback.

Serving and receiving are processes of their own. The plain copy is what `sendfile` into a socket and `recv_into` a file
give, one connection, nothing checked; the checked copy reads the file again for its SHA-256. The fetch is the agent's:
artifact server, token, ranges, SHA-256 in a thread beside them. Interleaved, medians; CPU is of both ends together.

    PYTHONPATH=tests python tests/bench/peer_fetch.py [--mib 1024] [--rounds 5] [--folder /tmp]
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
from collections.abc import Sequence
from pathlib import Path

from raymart_core.wire.link import ARTIFACT_PATH
from raymart_core.wire.peer_token import make_peer_token
from raymart_providers.model_cache.artifact_server import ArtifactServer
from raymart_serve.models.fetch import Artifact, fetch
from raymart_serve.models.range_source import RangeSource
from support.figures import Figure

MUST = 0.80
REVISION = "sha256:" + "ab" * 32
_CHUNK = 1024 * 1024


def measure() -> Sequence[Figure]:
    """The fetch beside the copies; also by CPU, which other work on the machine does not change much."""
    wall, cpu = compared(mib=1024, rounds=5, folder=None)
    ratio = wall["copy"] / wall["fetch"]
    figures = [
        Figure(
            name=f"{name}, 1 GiB",
            measured=f"{wall[name]:.2f} s by the clock, {cpu[name]:.2f} s of CPU at both ends",
            target="none",
            holds=True,
        )
        for name in wall
    ]
    return [
        *figures,
        Figure(
            name="fetch, of the copy's speed",
            measured=f"{ratio:.2f} by the clock, {cpu['copy'] / cpu['fetch']:.2f} by CPU",
            target=f"must be at least {MUST} by the clock",
            holds=ratio >= MUST,
        ),
    ]


def main() -> None:
    options = _parser().parse_args()
    if options.serve:
        _serve(options.serve, Path(options.file))
        return
    wall, cpu = compared(mib=options.mib, rounds=options.rounds, folder=options.folder)
    print(f"{options.mib} MiB, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for name in wall:
        print(f"{name:<13} {wall[name]:6.2f} s wall  {cpu[name]:6.2f} s CPU")
    ratio = wall["copy"] / wall["fetch"]
    print(f"fetch / copy  {ratio:6.2f} of the speed; must be at least {MUST}")
    sys.exit(ratio < MUST)


def compared(*, mib: int, rounds: int, folder: str | None) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of the clock and of CPU by name; neither way flushes to the disk."""
    with tempfile.TemporaryDirectory(prefix="raymart-bench-", dir=folder) as scratch:
        source, sha256 = _make(Path(scratch) / "source", mib)
        copy = _Way("copy", source)
        ways = {"copy": copy, "checked copy": copy, "fetch": _Way("fetch", source)}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        try:
            for _ in range(rounds):
                for name, way in ways.items():
                    taken[name].append(_timed(name, way, Path(scratch), sha256, mib))
        finally:
            for way in ways.values():
                way.process.kill()
                way.process.wait()
    wall = {name: statistics.median(one for one, _ in times) for name, times in taken.items()}
    return wall, {name: statistics.median(one for _, one in times) for name, times in taken.items()}


class _Way:
    """A serving process."""

    def __init__(self, kind: str, source: Path) -> None:
        self.kind = kind
        command = [sys.executable, __file__, "--serve", kind, "--file", str(source)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.address, self.secret = self.process.stdout.readline().split()


def _timed(name: str, way: _Way, folder: Path, sha256: str, mib: int) -> tuple[float, float]:
    """Seconds of the clock, and of the processors at both ends."""
    target = folder / "target"
    target.unlink(missing_ok=True)
    os.sync()  # the disk's own work must not fall into the next measurement
    cpu_before = time.process_time() + _cpu_of(way.process.pid)
    started = time.perf_counter()
    if name == "fetch":
        token = make_peer_token(way.secret, revision=REVISION, expires_s=int(time.time()) + 600)
        fetch(
            Artifact(sha256=sha256, size=mib * _CHUNK),
            [RangeSource(kind="peer", url=f"http://{way.address}{ARTIFACT_PATH}{sha256}", token=token)],
            partial=folder / "partial",
            target=target,
            cancel=threading.Event(),
        )
    else:
        _copy(way.address, target)
    if name == "checked copy":
        with target.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == sha256
    seconds = time.perf_counter() - started
    assert target.stat().st_size == mib * _CHUNK
    return seconds, time.process_time() + _cpu_of(way.process.pid) - cpu_before


def _cpu_of(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


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
