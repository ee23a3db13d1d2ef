"""An embedded PostgreSQL: real server, own cluster, TCP on 127.0.0.1, password by SCRAM."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from raymart_local.errors import PartFailed, PortBusy
from raymart_local.leftover_server import stop_leftover_server
from raymart_local.lock import DataDirLock
from raymart_local.ports import LOOPBACK, is_free, remembered_port
from raymart_local.postgres_binaries import programs
from raymart_local.postgres_home import distant_home, is_reachable
from raymart_local.postgres_roles import APP, MARKER, OWNER, role_statements, take_over_statements
from raymart_local.program import Program, last_line, launched_and_ready, stopped, unprivileged_account
from raymart_local.secret_file import secret_at

USER = "raymart"
STOP_SIGNAL = signal.SIGINT
"""PostgreSQL's fast shutdown: sessions end, a checkpoint is written."""
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
_STARTS_MAX = 5

StopMode = Literal["fast", "immediate"]

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # No Unix socket: its path has a limit of 107 bytes that a data directory may exceed.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
if sys.platform == "linux":
    # Recovery first makes the whole cluster durable: by one call here, elsewhere by opening each of its files, which
    # took most of a restart after a crash (1.3 s of 1.5 on a busy disk).
    _SETTINGS["recovery_init_sync_method"] = "syncfs"


class EmbeddedPostgres:
    """A PostgreSQL server that keeps its cluster below `data_dir` and survives being killed.

    Settings of the cluster itself: UTF8, C locale, fsync on, 200 connections. Files in `data_dir`: `cluster/` (or
    `cluster-path`, see `_cluster`), `password`, `owner-password` and `app-password` (0600), `port`, `postgres.log`,
    `lock`. The roles are those of `postgres_roles`; a cluster of before gets them at its next start.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        database: str = "raymart",
        log_path: Path | None = None,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._port_wanted = port
        self._port = port
        self._database = database
        self.log_path = (log_path or self._data_dir / "postgres.log").absolute()
        self._lock = DataDirLock(self._data_dir)
        self._account = unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`postgresql://raymart:<password>@127.0.0.1:<port>/<database>` of the superuser, for repairs and tests.

        Known once `prepare` or `start` ran, like the others.
        """
        return self._url(USER, "password")

    @property
    def owner_url(self) -> str:
        """The same of the owner of the database: for migrations."""
        return self._url(OWNER, "owner-password")

    @property
    def runtime_url(self) -> str:
        """The same of a role that owns nothing: for every other process."""
        return self._url(APP, "app-password")

    def _url(self, user: str, secret: str) -> str:
        assert self._port is not None, "the port is chosen by prepare() or start()"
        password = secret_at(self._data_dir / secret)
        return f"postgresql://{user}:{password}@{LOOPBACK}:{self._port}/{self._database}"

    @property
    def pid(self) -> int | None:
        """Process id of the server that `start` started, while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def prepare(self) -> Program:
        """Make the cluster on first use, stop a server that a killed owner left, choose the port.

        Returns the server as a program; `start` runs it, the stack's supervisor runs it as a part.
        Raises: PortBusy, PartMissing, PartFailed.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        cluster = self._cluster()
        if not (cluster / "PG_VERSION").exists():
            self._initialise(cluster)
        stop_leftover_server(
            cluster / "postmaster.pid",
            argument=str(cluster),
            signal=STOP_SIGNAL,
            timeout_s=STOP_TIMEOUT_S,
        )
        if not (cluster / MARKER).exists():
            self._split_roles(cluster)
        self._port = self._choose_port()
        settings = {**_SETTINGS, "port": str(self._port)}
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return self._program("postgres", "-D", str(cluster), *arguments)

    def start(self) -> str:
        """Run the server as a child of this process until it answers; returns the URL. A repeat does nothing.

        Raises: DataDirInUse, PortBusy, PartMissing, PartFailed.
        """
        if self.pid is not None:
            return self.url
        self._lock.acquire()
        try:
            # A killed server's backends hold its shared memory for a moment, and a chosen port can be lost to
            # another process before we bind it: both pass, so a start that fails at once is tried again.
            for _ in range(_STARTS_MAX):
                self._process = launched_and_ready(
                    self.prepare(),
                    log_path=self.log_path,
                    is_ready=self.is_answering,
                    timeout_s=START_TIMEOUT_S,
                )
                if self._process is not None:
                    return self.url
                time.sleep(0.5)
            raise PartFailed(
                "postgres", f"did not start ({last_line(self.log_path)})", log_path=self.log_path
            )
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: "fast" ends sessions and checkpoints, "immediate" leaves recovery to the next start."""
        if self._process is not None:
            how = STOP_SIGNAL if mode == "fast" else signal.SIGQUIT
            stopped(self._process, signal=how, timeout_s=STOP_TIMEOUT_S)
            self._process = None
        self._lock.release()

    def destroy(self) -> None:
        """Stop the server and delete its cluster, also where root keeps it outside `data_dir`."""
        self.stop("immediate")
        if not self._data_dir.exists():
            return
        cluster = self._cluster()
        shutil.rmtree(
            cluster if cluster.is_relative_to(self._data_dir) else cluster.parent, ignore_errors=True
        )
        shutil.rmtree(self._data_dir, ignore_errors=True)

    def is_answering(self) -> bool:
        """Whether the server accepts connections now (one real connection attempt, at most 3 s)."""
        where = ("-h", LOOPBACK, "-p", str(self._port), "-U", USER, "-d", self._database)
        return self._program("pg_isready", "-q", "-t", "3", *where).run(timeout_s=10).returncode == 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _choose_port(self) -> int:
        if self._port_wanted is None:
            return remembered_port(self._data_dir / "port")
        if not is_free(self._port_wanted):
            raise PortBusy(self._port_wanted, purpose="embedded Postgres")
        return self._port_wanted

    def _program(self, name: str, *arguments: str) -> Program:
        # A clean environment: PGPORT, PGDATA and friends of the user's shell must not reach the server.
        env = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        path = programs(self._account) / name
        return Program(argv=(str(path), *arguments), env=env, account=self._account)

    def _cluster(self) -> Path:
        """Where the cluster lies: in `data_dir`, or in root's runtime home when `nobody` cannot walk to `data_dir`.

        The file `cluster-path` in `data_dir` is the pointer to the second. Deleting `data_dir` deletes the pointer;
        the next start then sets the cluster aside (the last one is kept) and makes a new one.
        """
        local, pointer = self._data_dir / "cluster", self._data_dir / "cluster-path"
        with contextlib.suppress(FileNotFoundError):
            return Path(pointer.read_text().strip())
        if self._account is None or local.exists() or is_reachable(self._data_dir):
            return local
        distant = distant_home(self._data_dir) / "cluster"
        pointer.write_text(f"{distant}\n")
        return distant

    def _initialise(self, cluster: Path) -> None:
        """Make the cluster beside its final place and move it there whole, so that a kill leaves no half of one."""
        cluster.parent.mkdir(parents=True, exist_ok=True)
        password = secret_at(self._data_dir / "password")
        staged = Path(tempfile.mkdtemp(prefix=".initdb-", dir=cluster.parent))
        try:
            password_file = staged / "password"
            password_file.touch(mode=0o600)
            password_file.write_text(password)
            if self._account:
                self._account.own(staged)
                self._account.own(password_file)
            made = staged / "cluster"
            how = ("-A", "scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8", "--no-locale")
            self._run_once(self._program("initdb", "-D", str(made), "-U", USER, *how, "--no-instructions"))
            # The single-user server needs no port and no password.
            create = f'CREATE DATABASE "{self._database}"\n'.encode()
            self._run_single(made, "postgres", create + self._role_statements())
            self._mark(made)
            made.rename(cluster)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _split_roles(self, cluster: Path) -> None:
        """Make the roles in a cluster of before, where the superuser owns everything. Safe to run again."""
        self._run_single(cluster, "postgres", self._role_statements())
        self._run_single(cluster, self._database, take_over_statements().encode())
        self._mark(cluster)

    def _role_statements(self) -> bytes:
        return role_statements(
            database=self._database,
            owner_password=secret_at(self._data_dir / "owner-password"),
            app_password=secret_at(self._data_dir / "app-password"),
        ).encode()

    def _mark(self, cluster: Path) -> None:
        marker = cluster / MARKER
        marker.write_text("owner and runtime are two roles\n")
        if self._account:
            self._account.own(marker)

    def _run_single(self, cluster: Path, database: str, statements: bytes) -> None:
        # Without exit_on_error the single-user server would go on after an error and end well.
        how = ("--single", "-D", str(cluster), "-c", "exit_on_error=on", database)
        self._run_once(self._program("postgres", *how), stdin=statements)

    def _run_once(self, program: Program, *, stdin: bytes = b"") -> None:
        done = program.run(stdin=stdin, timeout_s=120)
        if done.returncode:
            name, said = (
                Path(program.argv[0]).name,
                (done.stderr or done.stdout).decode(errors="replace").strip(),
            )
            raise PartFailed("postgres", f"could not make its cluster: {name} said {said!r}")
