"""Which processes belong to a stack, shown with real ones."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from raymart_local.leftovers import processes_of, stop_all
from raymart_local.stack_record import MARKER, StackRecord

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(1000)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)",
]


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def start(
    processes: list["subprocess.Popen[str]"], argv: list[str], environment: dict[str, str]
) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


class TestProcessesOf:
    def test_marked_process_is_found_and_another_stacks_is_not(
        self, processes: list["subprocess.Popen[str]"]
    ):
        record, other = StackRecord.new(), StackRecord.new()
        ours = start(processes, SLEEP, {**os.environ, MARKER: record.stack_id})
        start(processes, SLEEP, {**os.environ, MARKER: other.stack_id})
        start(processes, SLEEP, dict(os.environ))
        assert [process.pid for process in processes_of(record)] == [ours.pid]

    def test_process_without_environment_is_found_by_its_session(
        self, processes: list["subprocess.Popen[str]"]
    ):
        record = StackRecord.new()
        hidden = start(processes, SLEEP, {})
        assert processes_of(record) == []
        assert [p.pid for p in processes_of(record.with_session(pid=hidden.pid))] == [hidden.pid]

    def test_foreign_process_in_a_session_of_a_reused_number_is_left_alone(
        self, processes: list["subprocess.Popen[str]"]
    ):
        foreign = start(processes, SLEEP, dict(os.environ))
        record = StackRecord.new().with_session(pid=foreign.pid)
        assert processes_of(record) == []

    def test_child_that_lost_the_marker_is_found_by_descent(self, processes: list["subprocess.Popen[str]"]):
        record = StackRecord.new()
        code = (
            "import subprocess, sys\n"
            "child = subprocess.Popen(['sleep', '1000'], env={'PATH': '/usr/bin:/bin'}, start_new_session=True)\n"
            "print('up', flush=True); child.wait()"
        )
        parent = start(processes, [sys.executable, "-c", code], {**os.environ, MARKER: record.stack_id})
        [child] = psutil.Process(parent.pid).children()
        assert {process.pid for process in processes_of(record)} == {parent.pid, child.pid}
        assert stop_all(record) == 2


class TestStopAll:
    def test_stubborn_process_is_killed_after_the_grace(self, processes: list["subprocess.Popen[str]"]):
        record = StackRecord.new()
        stubborn = start(processes, STUBBORN, {**os.environ, MARKER: record.stack_id})
        assert stop_all(record, grace_s=0.3) == 1
        assert stubborn.wait(5) == -9

    def test_nothing_to_stop_is_nothing(self):
        assert stop_all(StackRecord.new()) == 0


class TestStackRecord:
    def test_saved_record_is_loaded(self, tmp_path):
        record = StackRecord.new().with_session(pid=os.getpid())
        record.save(tmp_path / "stack.json")
        assert StackRecord.load(tmp_path / "stack.json") == record

    def test_record_of_an_earlier_boot_is_none(self, tmp_path):
        record = StackRecord(stack_id="x", boot_time=int(psutil.boot_time()) - 10_000)
        record.save(tmp_path / "stack.json")
        assert StackRecord.load(tmp_path / "stack.json") is None

    def test_missing_or_damaged_file_is_none(self, tmp_path):
        assert StackRecord.load(tmp_path / "stack.json") is None
        (tmp_path / "stack.json").write_text("{")
        assert StackRecord.load(tmp_path / "stack.json") is None
