"""Real Celery workers and beats of a test, as processes that it may kill."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from support.background import SECRET

TESTS = Path(__file__).parents[1]
EFFECT_TABLE = """
    create table if not exists test_effect (
        task text, subject text, pid int, fence bigint, at timestamptz default clock_timestamp()
    )
"""
"""What tasks of `support.work_app` did."""


class CeleryProcess:
    """One `celery -A ... worker` or `beat` in a session of its own; its log is `said`."""

    def __init__(
        self,
        *arguments: str,
        database_url: str,
        broker_url: str,
        redis_url: str | None = None,
        app: str = "support.work_app",
        env: dict[str, str] | None = None,
        clock_file: Path | None = None,
    ) -> None:
        """With a `clock_file` its wall clock is moved by as many seconds as that file says."""
        moved = [] if clock_file is None else ["support.moved_clock"]
        self._argv = [sys.executable, "-m", *moved, "celery", "-A", app, *arguments]
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(TESTS),
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "REDIS_URL": redis_url or "redis://127.0.0.1:1/0",
            "RAYMART_TOKEN_SECRET": SECRET,
            **({"MOVED_CLOCK_FILE": str(clock_file)} if clock_file else {}),
            **(env or {}),
        }
        self._lines: list[str] = []
        self._news = threading.Condition()

    @property
    def said(self) -> str:
        with self._news:
            return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def children(self) -> list[int]:
        """Process ids of the pool's children."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._argv, env=self._environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            print(self.said[-6_000:])  # noqa: T201 - for the failed test

    def wait_for(self, words: str, *, timeout_s: float = 60.0) -> None:
        """Until the log holds `words`."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while words not in "".join(self._lines):
                assert self._process.poll() is None, f"ended:\n{''.join(self._lines)[-4_000:]}"
                assert time.monotonic() < deadline, f"no {words!r} in\n{''.join(self._lines)[-4_000:]}"
                self._news.wait(0.5)

    def stop(self) -> int:
        """End it as a supervisor would; returns its status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(10)
        self._process.stdout.close()
        return self._process.returncode

    def kill(self) -> None:
        """SIGKILL to it and its children, as the kernel does when memory ends."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
