"""Real Ray clusters of a test's own: a head and labelled nodes on loopback, with token authentication."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from raymart_local.redis import EmbeddedRedis
from raymart_serve.head_store import head_environment
from support.pool_members import authority, member

_START_TIMEOUT_S = 240.0
_READY = "Ray runtime started"


class RayCluster:
    """Starts its parts in series: parallel starts on one host race for a socket name (facts: seam)."""

    def __init__(self) -> None:
        # Short: the path of a Unix socket may have 107 bytes, and Ray adds 70.
        self.directory = Path(tempfile.mkdtemp(prefix="rm", dir="/tmp"))
        token_path = self.directory / "token"
        token_path.write_text(secrets.token_hex(32))
        token_path.chmod(0o600)
        self.authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_path)}
        self.port = _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._parts: list[subprocess.Popen[bytes]] = []
        self._head_environment: Mapping[str, str] = {}

    def start_head(self) -> None:
        arguments = [
            "--head",
            f"--port={self.port}",
            f"--ray-client-server-port={_free_port()}",
            "--num-cpus=0",
        ]
        arguments += [f"--temp-dir={self.directory}/r", "--include-dashboard=false"]
        self._start("head", arguments, self._head_environment)

    def kill_head(self) -> None:
        """SIGKILL of the head and all that it started, as if its machine had lost power."""
        (head,) = [part for part in self._parts if "--head" in part.args]
        processes = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        for process in processes:
            process.kill()
        head.wait(10)
        psutil.wait_procs(processes[1:], timeout=10)
        self._parts.remove(head)

    def start_node(self, name: str, *, environment: Mapping[str, str] | None = None) -> None:
        arguments = [f"--address={self.address}", "--num-cpus=2", f"--labels=raymart.io/node={name}"]
        self._start(name, arguments, environment or {})

    def stop(self) -> None:
        """End everything, also what a failed start left."""
        # The head last: a node that loses it first looks for it for a while.
        for part in reversed(self._parts):
            part.send_signal(signal.SIGTERM)
            try:
                part.wait(20)
            except subprocess.TimeoutExpired:
                part.kill()
                part.wait()
        for process in self.leftovers():
            process.kill()
        psutil.wait_procs(self.leftovers(), timeout=5)
        shutil.rmtree(self.directory, ignore_errors=True)

    def leftovers(self) -> list[psutil.Process]:
        """Processes that carry this cluster's token path: ours and nobody else's."""
        mark = self.authentication["RAY_AUTH_TOKEN_PATH"]
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get("RAY_AUTH_TOKEN_PATH") == mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        log_path = self.directory / f"{name}.log"
        command = [sys.executable, "-m", "raymart_serve.ray_node", "start", "--block", *arguments]
        command += ["--node-ip-address=127.0.0.1", "--num-gpus=0", "--object-store-memory=80000000"]
        command += ["--disable-usage-stats", "--include-log-monitor=false"]
        with log_path.open("wb") as log:
            part = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.authentication, **environment},
                start_new_session=True,
            )
        self._parts.append(part)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while _READY not in log_path.read_text(errors="replace"):
            if part.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{log_path.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)


class HouseCluster(RayCluster):
    """The same as a house pool's: TLS by an authority of its own, and a head whose state is in a Redis."""

    def __init__(self) -> None:
        super().__init__()
        self._authority = authority()
        self._store = EmbeddedRedis(self.directory / "redis")
        self._store.start()
        self.authentication = dict(self.member("driver"))
        self._head_environment = {
            **self.member("head"),
            **head_environment(
                redis_address=self._store.address, password_file=self._store.password_file, namespace="house"
            ),
        }

    def member(self, name: str) -> Mapping[str, str]:
        """What a member of the cluster has in its environment."""
        folder = self.directory / "members" / name
        token = (self.directory / "token").read_text()
        return member(folder, self._authority, token=token, head=self.address).environment

    def start_node(self, name: str, *, environment: Mapping[str, str] | None = None) -> None:
        super().start_node(name, environment={**self.member(name), **(environment or {})})

    def stop(self) -> None:
        self._store.stop()
        super().stop()

    def leftovers(self) -> list[psutil.Process]:
        """Processes whose token is in this cluster's directory."""
        mark = f"{self.directory}/"
        found = []
        for process in psutil.process_iter():
            try:
                token = process.environ().get("RAY_AUTH_TOKEN_PATH", "")
            except psutil.Error:
                continue
            if process.pid != os.getpid() and token.startswith(mark):
                found.append(process)
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
