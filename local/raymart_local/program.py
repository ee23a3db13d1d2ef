"""A program with all that its process gets: arguments, environment, directory, account."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
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

    def launch(self, *, output: IO[bytes] | int) -> "subprocess.Popen[bytes]":
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
