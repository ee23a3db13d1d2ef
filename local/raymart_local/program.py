"""A program with all that its process gets: arguments, environment, directory, account."""

import asyncio
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account of another user that a program runs as, because it refuses to run as root."""

    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Give the file or directory `path` to this account."""
        os.chown(path, self.uid, self.gid)


def unprivileged_account() -> Account | None:
    """None = we are not root and stay who we are; for root `nobody`, which every system has a name for."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run. The environment is the whole one: nothing of ours is inherited beside it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path = Path("/")
    account: Account | None = None

    def with_environment(self, more: Mapping[str, str]) -> "Program":
        """The same program with `more` in its environment."""
        return replace(self, env={**self.env, **more})

    async def spawn(self, *, output: IO[bytes]) -> asyncio.subprocess.Process:
        """The same as `launch` for a process that an event loop waits for."""
        who = self.account
        return await asyncio.create_subprocess_exec(
            *self.argv,
            env=self.env,
            cwd=self.cwd,
            user=who.uid if who else None,
            group=who.gid if who else None,
            extra_groups=() if who else None,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def launch(self, *, output: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start it in a session of its own (a Ctrl-C of our terminal is ours alone), all output into `output`."""
        who = self.account
        return subprocess.Popen(  # noqa: S603 - the arguments are our own, no shell is involved
            self.argv,
            env=self.env,
            cwd=self.cwd,
            user=who.uid if who else None,
            group=who.gid if who else None,
            extra_groups=() if who else None,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def run(self, *, stdin: bytes = b"", timeout_s: float) -> "subprocess.CompletedProcess[bytes]":
        """Run it to its end and catch its output. Raises: subprocess.TimeoutExpired, after killing it."""
        who = self.account
        return subprocess.run(  # noqa: S603 - the arguments are our own, no shell is involved
            self.argv,
            env=self.env,
            cwd=self.cwd,
            user=who.uid if who else None,
            group=who.gid if who else None,
            extra_groups=() if who else None,
            input=stdin,
            timeout=timeout_s,
            capture_output=True,
            check=False,
        )


def launched_and_ready(
    program: Program, *, log_path: Path, is_ready: Callable[[], bool], timeout_s: float
) -> "subprocess.Popen[bytes] | None":
    """Launch `program` with its output in `log_path` and wait for `is_ready`; None when it exits first.

    Raises: TimeoutError, after killing it.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = program.launch(output=log)
    deadline = time.monotonic() + timeout_s
    while process.poll() is None:
        if is_ready():
            return process
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise TimeoutError(
                f"{program.argv[0]} did not answer within {timeout_s:g} s; its log is {log_path}"
            )
        time.sleep(0.02)
    return None


def stopped(process: "subprocess.Popen[bytes]", *, signal: int, timeout_s: float) -> None:
    """Send `signal` and wait; kill when `timeout_s` was not enough."""
    process.send_signal(signal)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(log_path: Path) -> str:
    """The last line of a log, for messages."""
    try:
        lines = log_path.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it wrote no log"
