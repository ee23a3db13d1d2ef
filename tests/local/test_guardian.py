"""The guardian as the process it is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from raymart_local.stack_record import MARKER, StackRecord


class Guardian:
    """A guardian whose supervisor is this test."""

    def __init__(self, record_path: Path, *, stack_id: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raymart_local.guardian", str(record_path), stack_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def lose_the_supervisor(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(60)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the stack `StackRecord` whose id is in its environment."""
    record = StackRecord.new()
    process = subprocess.Popen(["sleep", "1000"], env={**os.environ, MARKER: record.stack_id})
    # Popen returns in the middle of the kernel's exec, whose new environment may not be there yet.
    while MARKER not in psutil.Process(process.pid).environ():
        assert process.poll() is None
    yield process
    process.kill()
    process.wait()


def stack_of(process: "subprocess.Popen[bytes]") -> str:
    return psutil.Process(process.pid).environ()[MARKER]


class TestGuardian:
    def test_end_of_the_supervisor_stops_the_stack(self, tmp_path: Path, sleeper: "subprocess.Popen[bytes]"):
        record = StackRecord.new(stack_id=stack_of(sleeper))
        record.save(tmp_path / "stack.json")
        assert Guardian(tmp_path / "stack.json", stack_id=record.stack_id).lose_the_supervisor() == 0
        assert sleeper.wait(5) == -signal.SIGTERM

    def test_deleted_record_does_not_keep_it_from_it(
        self, tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
    ):
        assert Guardian(tmp_path / "none.json", stack_id=stack_of(sleeper)).lose_the_supervisor() == 0
        assert sleeper.wait(5) == -signal.SIGTERM

    def test_next_stack_on_the_same_directory_is_left_alone(
        self, tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
    ):
        """The next supervisor may have written its own record before the old guardian reads it."""
        StackRecord.new(stack_id=stack_of(sleeper)).save(tmp_path / "stack.json")
        old = Guardian(tmp_path / "stack.json", stack_id=StackRecord.new().stack_id)
        assert old.lose_the_supervisor() == 0
        assert sleeper.poll() is None

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_signal_meant_for_the_stack_does_not_end_it(self, tmp_path: Path, number: signal.Signals):
        guardian = Guardian(tmp_path / "stack.json", stack_id=StackRecord.new().stack_id)
        ignored = f"{1 << (number - 1):x}"
        while int(_ignored_signals(guardian.process.pid), 16) & int(ignored, 16) == 0:
            assert guardian.process.poll() is None
        guardian.process.send_signal(number)
        assert guardian.lose_the_supervisor() == 0


def _ignored_signals(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
