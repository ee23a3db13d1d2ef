"""The supervisor with tiny real programs: order, restarts, and that nothing is left, whatever ends it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from local import tiny_stack

from raymart_local.errors import DataDirInUse, PartFailed
from raymart_local.leftovers import processes_of
from raymart_local.logs import Console
from raymart_local.stack_record import StackRecord
from raymart_local.supervisor import record_path, supervised

WITHIN_S = 30.0


class TinyStack:
    """The tiny stack as a child process."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            [sys.executable, tiny_stack.__file__, str(data_dir)], stdout=subprocess.PIPE, text=True
        )

    def line_starting(self, start: str) -> str:
        """Read its output up to a line that begins with `start`."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if line.startswith(start):
                return line.strip()
        raise AssertionError(f"no line {start!r} in {seen}")

    def ready_pids(self) -> list[int]:
        """Wait until it is ready; the pids of its parts and of the two daemons."""
        pids = [int(pid) for pid in self.line_starting("READY").split()[1:]]
        return [*pids, *(int((self.data_dir / f"{name}.pid").read_text()) for name in ("daemon", "hidden"))]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyStack]:
    stack = TinyStack(tmp_path)
    yield stack
    stack.end()


def wait_gone(pids: list[int]) -> None:
    """Wait until none of `pids` lives."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=WITHIN_S)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def events(data_dir: Path) -> list[str]:
    return (data_dir / "events").read_text().splitlines()


def record_of(data_dir: Path) -> StackRecord:
    record = StackRecord.load(record_path(data_dir))
    assert record is not None
    return record


class TestStartAndStop:
    def test_parts_start_after_and_stop_before_what_they_need(self, tiny: TinyStack):
        tiny.ready_pids()
        tiny.process.send_signal(signal.SIGINT)
        tiny.process.wait(WITHIN_S)
        order = events(tiny.data_dir)
        for earlier, later in [
            ("store started", "task done"),
            ("task done", "service started"),
            ("service started", "front started"),
            ("front started", "front stopped"),
            ("front stopped", "service stopped"),
            ("service stopped", "store stopped"),
        ]:
            assert order.index(earlier) < order.index(later), order

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_nothing_is_left_after(self, tiny: TinyStack, number: signal.Signals):
        pids = tiny.ready_pids()
        assert all(psutil.pid_exists(pid) for pid in pids)
        tiny.process.send_signal(number)
        tiny.process.wait(WITHIN_S)
        wait_gone(pids)
        assert processes_of(record_of(tiny.data_dir)) == []

    def test_signal_during_the_start_leaves_nothing(self, tmp_path: Path):
        stack = TinyStack(tmp_path)
        try:
            stack.line_starting("store")
            stack.process.send_signal(signal.SIGTERM)
            stack.process.wait(WITHIN_S)
            assert processes_of(record_of(tmp_path)) == []
        finally:
            stack.end()

    def test_second_start_on_the_same_directory_works(self, tiny: TinyStack):
        tiny.ready_pids()
        tiny.process.send_signal(signal.SIGTERM)
        tiny.process.wait(WITHIN_S)
        again = TinyStack(tiny.data_dir)
        try:
            assert again.ready_pids()
        finally:
            again.end()

    def test_leftovers_of_a_stack_whose_guardian_died_too_are_stopped_by_the_next(self, tiny: TinyStack):
        pids = tiny.ready_pids()
        guardians = [
            p for p in psutil.Process(tiny.process.pid).children() if "guardian" in " ".join(p.cmdline())
        ]
        assert len(guardians) == 1
        tiny.process.send_signal(signal.SIGSTOP)  # so that it does not start another guardian
        guardians[0].kill()
        tiny.process.kill()
        tiny.process.wait()
        assert all(psutil.pid_exists(pid) for pid in pids)
        again = TinyStack(tiny.data_dir)
        try:
            assert "stopped" in again.line_starting("stack")
            wait_gone(pids)
            assert again.ready_pids()
        finally:
            again.end()

    def test_killed_guardian_is_replaced(self, tiny: TinyStack):
        pids = tiny.ready_pids()
        supervisor = psutil.Process(tiny.process.pid)
        first = next(p for p in supervisor.children() if "guardian" in " ".join(p.cmdline()))
        first.kill()
        now: list[psutil.Process] = []
        deadline = time.monotonic() + WITHIN_S
        while not now and time.monotonic() < deadline:
            # The killed one is a zombie, without a command line, until the supervisor has noticed its death.
            with contextlib.suppress(psutil.Error):
                now = [
                    p for p in supervisor.children() if p != first and "raymart_local.guardian" in p.cmdline()
                ]
            time.sleep(0.05)
        assert now
        tiny.process.kill()
        tiny.process.wait()
        wait_gone(pids)


class TestSecondSupervisor:
    def test_same_directory_is_refused_naming_the_pid(self, tiny: TinyStack):
        pids = tiny.ready_pids()
        other = TinyStack(tiny.data_dir)
        try:
            assert f"in use by process {tiny.process.pid}" in other.line_starting("FAILED")
            assert other.process.wait(WITHIN_S) == 1
            assert all(psutil.pid_exists(pid) for pid in pids)
        finally:
            other.end()

    async def test_lock_file_of_a_dead_process_is_no_lock(self, tmp_path: Path):
        (tmp_path / "lock").write_text("1\n")
        async with supervised(list, data_dir=tmp_path, console=Console()):
            with pytest.raises(DataDirInUse, match=f"process {os.getpid()}"):
                async with supervised(list, data_dir=tmp_path, console=Console()):
                    pass


class TestPartThatDies:
    async def test_before_it_is_ready_ends_the_stack_naming_its_log(self, tmp_path: Path):
        dying = tiny_stack.part(tmp_path, "dying", "print('no such luck'); raise SystemExit(3)")
        store = tiny_stack.part(tmp_path, "store", tiny_stack.SERVICE)
        with pytest.raises(PartFailed, match=r"dying died before it was ready, with status 3.*dying\.log"):
            async with supervised(lambda: [store, dying], data_dir=tmp_path, console=Console()):
                raise AssertionError("the body must not run")
        assert processes_of(record_of(tmp_path)) == []

    async def test_never_ready_is_stopped_and_named(self, tmp_path: Path):
        late = tiny_stack.part(tmp_path, "late", "import signal; signal.pause()", ready_timeout_s=0.5)
        with pytest.raises(PartFailed, match=r"late was not ready within 0\.5 s"):
            async with supervised(lambda: [late], data_dir=tmp_path, console=Console()):
                pass
        assert processes_of(record_of(tmp_path)) == []

    async def test_failed_task_ends_the_stack(self, tmp_path: Path):
        failing = tiny_stack.part(tmp_path, "migrate", "raise SystemExit('no database')", kind="task")
        with pytest.raises(PartFailed, match="migrate failed with status 1"):
            async with supervised(lambda: [failing], data_dir=tmp_path, console=Console()):
                pass

    async def test_flaky_start_is_tried_again(self, tmp_path: Path):
        code = (
            "import pathlib, sys\nflag = pathlib.Path(sys.argv[2]) / 'tried'\n"
            "if not flag.exists():\n    flag.touch()\n    sys.exit(1)\n" + tiny_stack.SERVICE
        )
        flaky = tiny_stack.part(tmp_path, "flaky", code, starts_max=2)
        async with supervised(lambda: [flaky], data_dir=tmp_path, console=Console()) as running:
            assert running.pids.keys() == {"flaky"}

    async def test_service_is_started_again(self, tmp_path: Path):
        service = tiny_stack.part(tmp_path, "service", tiny_stack.SERVICE)
        async with supervised(lambda: [service], data_dir=tmp_path, console=Console()) as running:
            first = running.pids["service"]
            (tmp_path / "service.ready").unlink()
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(WITHIN_S):
                while not (tmp_path / "service.ready").exists():
                    await asyncio.sleep(0.02)
            assert running.pids["service"] != first

    async def test_what_it_left_is_gone_before_it_starts_again(self, tmp_path: Path):
        code = (
            "import pathlib, subprocess, sys\nfolder = pathlib.Path(sys.argv[2])\n"
            "child = subprocess.Popen(['sleep', '1000'])\n"
            "(folder / 'child').write_text(str(child.pid))\n" + tiny_stack.SERVICE
        )
        service = tiny_stack.part(tmp_path, "service", code)
        async with supervised(lambda: [service], data_dir=tmp_path, console=Console()) as running:
            child = psutil.Process(int((tmp_path / "child").read_text()))
            (tmp_path / "service.ready").unlink()
            os.kill(running.pids["service"], signal.SIGKILL)
            async with asyncio.timeout(WITHIN_S):
                while not (tmp_path / "service.ready").exists():
                    await asyncio.sleep(0.02)
            assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

    async def test_killed_with_all_below_it_is_started_again(self, tmp_path: Path):
        """As a machine's crash does: also what left its process group, which the part's own death would not end."""
        code = (
            "import pathlib, subprocess, sys\nfolder = pathlib.Path(sys.argv[2])\n"
            "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
            "(folder / 'child').write_text(str(child.pid))\n" + tiny_stack.SERVICE
        )
        service = tiny_stack.part(tmp_path, "service", code)
        other = tiny_stack.part(tmp_path, "other", tiny_stack.SERVICE)
        async with supervised(lambda: [service, other], data_dir=tmp_path, console=Console()) as running:
            before, child = dict(running.pids), psutil.Process(int((tmp_path / "child").read_text()))
            (tmp_path / "service.ready").unlink()
            assert running.kill(["service"]) == 2
            async with asyncio.timeout(WITHIN_S):
                while not (tmp_path / "service.ready").exists():
                    await asyncio.sleep(0.02)
            assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
            assert running.pids["service"] != before["service"]
            assert running.pids["other"] == before["other"]

    async def test_store_ends_the_stack_and_its_body(self, tmp_path: Path):
        store = tiny_stack.part(tmp_path, "store", tiny_stack.SERVICE, if_it_dies="end the stack")
        front = tiny_stack.part(tmp_path, "front", tiny_stack.SERVICE, needs=("store",))

        async def kill_the_store() -> None:
            async with supervised(lambda: [store, front], data_dir=tmp_path, console=Console()) as running:
                os.kill(running.pids["store"], signal.SIGKILL)
                await asyncio.sleep(WITHIN_S)

        with pytest.raises(PartFailed, match="store died with SIGKILL"):
            await kill_the_store()
        assert "front stopped" in events(tmp_path)

    async def test_stubborn_part_is_killed_after_its_grace(self, tmp_path: Path):
        stubborn = tiny_stack.part(tmp_path, "stubborn", tiny_stack.STUBBORN, stop_grace_s=0.3)
        async with supervised(lambda: [stubborn], data_dir=tmp_path, console=Console()) as running:
            pid = running.pids["stubborn"]
        assert not psutil.pid_exists(pid)
        assert processes_of(record_of(tmp_path)) == []

    async def test_error_of_the_body_is_raised_as_itself(self, tmp_path: Path):
        service = tiny_stack.part(tmp_path, "service", tiny_stack.SERVICE)
        with pytest.raises(ZeroDivisionError):
            async with supervised(lambda: [service], data_dir=tmp_path, console=Console()):
                raise ZeroDivisionError
        assert "service stopped" in events(tmp_path)
