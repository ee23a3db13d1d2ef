"""A RabbitMQ of a test's own: the system's server, on ports and directories of its own, ended by its process id."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from raymart_core.ids import new_id

SERVERS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server")
"""Not the wrapper in /usr/sbin: it changes to the system's user and directories."""
NEEDED = "RabbitMQ is not installed: apt-get install rabbitmq-server (do not let it start a system service)"


def server_program() -> str | None:
    """The server's own start script; None when RabbitMQ is not installed."""
    return next((path for path in SERVERS if os.access(path, os.X_OK)), None)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Rabbitmq:
    """One node with its guest user, in `data_dir`. `restart` keeps queues and messages."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._port, distribution, mapper = free_ports(3)
        self._cookie = new_id().hex
        self._name = f"raymart-{new_id().hex[-12:]}@localhost"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(data_dir),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(data_dir / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data_dir / "log"),
            "RABBITMQ_PID_FILE": str(data_dir / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(data_dir / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f'-kernel inet_dist_use_interface {{127,0,0,1}} -setcookie {self._cookie}',
        }  # fmt: skip

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}//"

    def __enter__(self) -> Self:
        program = server_program()
        assert program is not None, NEEDED
        self._data_dir.mkdir(parents=True, exist_ok=True)
        (self._data_dir / "plugins").write_text("[].\n")
        # Its own mapper of names, on its own port, so that no system service is touched and nothing stays behind.
        epmd = shutil.which("epmd")
        assert epmd is not None, NEEDED
        self._mapper = subprocess.Popen([epmd], env=self._environment)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._mapper.terminate()
        self._mapper.wait(10)

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        program = server_program()
        assert program is not None
        log = (self._data_dir / "server.log").open("ab")
        self._process = subprocess.Popen(
            [program], env=self._environment, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        deadline = time.monotonic() + 90
        while not self._answers():
            assert self._process.poll() is None, (self._data_dir / "server.log").read_text()[-3_000:]
            assert time.monotonic() < deadline, "RabbitMQ did not start within 90 s"
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM, which it takes for an orderly stop; SIGKILL to the rest."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)

    def queues(self) -> list[tuple[str, str]]:
        """(name, type) of each queue."""
        control = str(Path(str(server_program())).with_name("rabbitmqctl"))
        listed = subprocess.run(
            [control, "--quiet", "list_queues", "name", "type", "--no-table-headers"],
            env=self._environment | {"RABBITMQ_CTL_ERL_ARGS": f"-setcookie {self._cookie}"},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return [(name, kind) for name, kind in (line.split("\t") for line in listed.stdout.splitlines())]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False
