"""Processes of a bench: pinned to a core, stopped at the end, and what CPU time and memory each took."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15


@contextlib.contextmanager
def started(
    command: list[str], *, core: int, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs until the block ends, and the first line that it prints; what it logs goes to `log`."""
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("w")) if log is not None else None
        process = subprocess.Popen(
            pinned(command, core=core),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS), **(environment or {})},
        )
        stack.callback(stop, process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(command)} did not start{': ' + log.read_text()[-2000:] if log else ''}")
        yield process, line


def wait_for_http(url: str, process: subprocess.Popen[str]) -> None:
    """Until `url` answers well. Raises: RuntimeError when `process` has ended, TimeoutError when it does not answer."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}; its log is beside its files")
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=2).close()
            return
        time.sleep(0.25)
    raise TimeoutError(f"{url} does not answer after {START_TIMEOUT_S} s")


def stop(process: subprocess.Popen[str]) -> None:
    """End it, by force where it does not listen."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pinned(command: list[str], *, core: int) -> list[str]:
    """`command` on one core, where the machine has two and the tool to say so."""
    if (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(core), *command]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this process and what it starts to one core: PostgreSQL must not run on the gateway's, in its caches."""
    allowed = os.sched_getaffinity(0)
    if core in allowed:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def compiled_mock(folder: Path) -> Path:
    """The replica in C. Raises: SystemExit without a C compiler."""
    compiler = shutil.which("cc") or sys.exit("the bench needs a C compiler (cc)")
    mock = folder / "replica_mock"
    subprocess.run([compiler, "-O2", "-o", mock, HERE / "replica_mock.c"], check=True)
    return mock


def cpu_ns(pid: int) -> int:
    """CPU time so far of every thread of `pid` and of its children that live, in nanoseconds.

    schedstat's, which other work on the machine touches by its caches alone.
    """
    total = 0
    for each in family(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{each}/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    total += int((task / "schedstat").read_text().split()[0])
    return total


def rss_mb(pid: int) -> float:
    """Resident memory of `pid` and its children, in MB."""
    pages = 0
    for each in family(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def pss_mb(pid: int) -> float:
    """Memory of `pid` and its children in MB, each page that several share divided among them."""
    return sum(_memory_mb(each, "Pss:") for each in family(pid))


def own_mb(pid: int) -> float:
    """Memory of `pid` alone in MB, without any page that another process has too."""
    return _memory_mb(pid, "Private_Clean:") + _memory_mb(pid, "Private_Dirty:")


def _memory_mb(pid: int, kind: str) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(kind):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def family(pid: int) -> list[int]:
    """The process and all that it started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
    return found
