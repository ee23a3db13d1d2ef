"""`raymart` as people run it: as a process, or in this one, which spares a second of starting."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from raymart_graphql import cli

SECRET = "0123456789abcdef0123456789abcdef"
RAYMART = Path(sys.executable).parent / "raymart"
Done = subprocess.CompletedProcess[str]


def environment(url: str | None, **variables: str) -> dict[str, str]:
    """What a command needs to know, and nothing of this process's settings."""
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
    # Without a database it would find a stack that runs in this folder.
    named = {"DATABASE_URL": url} if url else {"RAYMART_DATA_DIR": os.devnull}
    return bare | named | {"RAYMART_TOKEN_SECRET": SECRET} | variables


def run_process(url: str | None, *arguments: str, stdin: str = "", **variables: str) -> Done:
    """Run `raymart` as a process."""
    return subprocess.run(
        [RAYMART, *arguments],
        input=stdin,
        env=environment(url, **variables),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def run(url: str | None, *arguments: str, stdin: str = "", **variables: str) -> Done:
    """Run `raymart` here, all but the set-up of logs: its environment, its streams and its exit status are the same.

    In a thread, for commands start an event loop of their own.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_run, arguments, environment(url, **variables), stdin).result()


def _run(arguments: Sequence[str], variables: dict[str, str], stdin: str) -> Done:
    output, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, variables, clear=True),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            cli.run(arguments)
        except SystemExit as ended:
            status = ended.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


def failed(done: Done, status: int = 1) -> str:
    """The one line that a failed command printed."""
    assert done.returncode == status, done
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("raymart: ")
    return line
