"""`raymart up` as its users run it: everything embedded, killed, started again."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from raymart_local.layout import Layout
from raymart_local.leftovers import processes_of
from raymart_local.ports import free_port
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.stack_record import StackRecord
from raymart_local.supervisor import record_path

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

RAYMART = str(Path(sys.executable).parent / "raymart")
READY_WITHIN_S = 300.0
GONE_WITHIN_S = 45.0
MEMORY_BYTES_MAX = 3_500_000_000
"""Two of the six replicas have torch in them, half a gigabyte each."""
PARTS = {
    "postgres", "migrate", "seed", "redis", "solana", "api", "celery-worker", "celery-beat", "ray-head", "ray-demo-a",
    "ray-demo-b", "agent-demo-a", "agent-demo-b", "controller", "guardian",
}  # fmt: skip


class Up:
    """`raymart up` in `data_dir`; all that it prints is in `output`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.output = data_dir.parent / "up.out"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.output.open("wb") as output:
            self.process = self.run(port=self.port, data_dir=self.data_dir, output=output)
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.2)

    @staticmethod
    def run(*, port: int, data_dir: Path, output: object) -> "subprocess.Popen[bytes]":
        names = {"DATABASE_URL", "REDIS_URL", "BROKER_URL", "SOLANA_RPC_URL"}
        inherited = {name: value for name, value in os.environ.items() if name not in names}
        environment = {**inherited, "RAYMART_PORT": str(port), "RAYMART_DATA_DIR": str(data_dir)}
        return subprocess.Popen([RAYMART, "up"], env=environment, stdout=output, stderr=subprocess.STDOUT)  # type: ignore[call-overload]

    def processes(self) -> list[psutil.Process]:
        record = StackRecord.load(record_path(self.data_dir))
        assert record is not None
        return processes_of(record)

    def wait_nothing_left(self) -> None:
        deadline = time.monotonic() + GONE_WITHIN_S
        while left := self.processes():
            assert time.monotonic() < deadline, [process.cmdline() for process in left]
            time.sleep(0.2)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(90)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A ready stack; a test that ends it starts it again."""
    stack = Up(tmp_path_factory.mktemp("up") / "var")
    try:
        stack.start()
        yield stack
    finally:
        stack.end()
        EmbeddedPostgres(Layout(stack.data_dir).postgres).destroy()


class TestUp:
    def test_each_part_has_its_log(self, up: Up):
        assert {path.stem for path in (up.data_dir / "logs").glob("*.log")} >= PARTS

    def test_secrets_are_private(self, up: Up):
        layout = Layout(up.data_dir)
        assert stat.S_IMODE(layout.secrets.stat().st_mode) == 0o700
        private = (layout.credentials, layout.token_secret, layout.ray_token, layout.treasury_keypair)
        for path in (*private, layout.payout_marker_key, layout.solana / "chain.jsonl"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_the_compute_plane_has_no_secret_of_the_control_plane(self, up: Up):
        secret = Layout(up.data_dir).token_secret.read_text().strip()
        for process in up.processes():
            command = " ".join(process.cmdline())
            if "raymart-provider" in command or "raymart_serve" in command or "ServeReplica" in command:
                environment = process.environ()
                assert "DATABASE_URL" not in environment, command
                assert secret not in environment.values(), command

    def test_everything_listens_on_loopback_only(self, up: Up):
        open_to_all = {
            (process.name(), " ".join(process.cmdline())[:60], connection.laddr.port)
            for process in up.processes()
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr.ip not in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        }
        # Known exception (facts: seam, section 1): Serve's internal gRPC ports; they carry no tokens of ours.
        assert all("Serve" in name or "Serve" in command for name, command, _ in open_to_all), open_to_all

    def test_idle_memory_is_within_the_limit(self, up: Up):
        """PSS: the resident sum counts a library once for each of the twenty processes that share it."""
        assert up.process is not None
        everything = [psutil.Process(up.process.pid), *up.processes()]
        pss = sum(process.memory_full_info().pss for process in everything)
        rss = sum(process.memory_info().rss for process in everything)
        sys.stdout.write(
            f"\nidle: {len(everything)} processes, PSS {pss / 1e9:.2f} GB, RSS {rss / 1e9:.2f} GB\n"
        )
        assert pss <= MEMORY_BYTES_MAX, f"PSS {pss / 1e9:.2f} GB, RSS {rss / 1e9:.2f} GB"

    def test_second_start_on_the_same_directory_is_refused_naming_the_pid(self, up: Up):
        assert up.process is not None
        other = Up.run(port=free_port(), data_dir=up.data_dir, output=subprocess.PIPE)
        said = other.communicate(timeout=60)[0].decode()
        assert other.returncode == 1
        assert f"in use by process {up.process.pid}" in said

    def test_busy_port_is_refused_naming_it_and_the_setting(self, up: Up, tmp_path: Path):
        other = Up.run(port=up.port, data_dir=tmp_path / "other", output=subprocess.PIPE)
        said = other.communicate(timeout=60)[0].decode()
        assert other.returncode == 1
        assert f"port {up.port} of 127.0.0.1, meant for the API, is taken" in said
        assert "RAYMART_PORT" in said

    def test_sigkill_of_the_supervisor_leaves_nothing_and_the_next_start_has_everything(self, up: Up):
        assert up.process is not None
        key = json.loads(Layout(up.data_dir).credentials.read_text())["customer"]["api_key"]
        assert self._status_of_a_chat(up, key) == 200
        up.process.kill()
        up.process.wait()
        up.wait_nothing_left()
        up.start()
        assert self._status_of_a_chat(up, key) == 200

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signal_stops_everything_in_order_with_status_0(self, up: Up, number: signal.Signals):
        assert up.process is not None
        up.process.send_signal(number)
        assert up.process.wait(90) == 0, up.output.read_text()
        assert up.processes() == []
        assert "killing it" not in up.output.read_text()
        up.start()

    @staticmethod
    def _status_of_a_chat(up: Up, key: str) -> int:
        body = {
            "model": "raymart/demo-chat",
            "messages": [{"role": "user", "content": "ping"}],
            "temperature": 0,
            "max_tokens": 8,
        }
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(f"{up.base_url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        return answer.status_code
