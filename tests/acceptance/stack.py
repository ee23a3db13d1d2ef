"""A stack of our own on a free port, as a user starts it, or the one that RAYMART_CREDENTIALS names."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from environments import ROOT

DATA = ROOT / "var" / "acceptance"
MODELS = ("raymart/demo-chat", "raymart/demo-embed", "raymart/demo-image")
_READY_S = 400.0
_STOP_S = 60.0


class NoStackError(Exception):
    """It did not start, or did not end cleanly; the message has its last lines."""


@contextlib.contextmanager
def running_stack() -> Iterator[Path]:
    """The credentials file of a stack whose models are all served. Raises: NoStackError."""
    given = os.environ.get("RAYMART_CREDENTIALS")
    if given:
        yield Path(given)
        return
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    port = _free_port()
    output = DATA / "up.out"
    settings = {"RAYMART_DATA_DIR": str(DATA), "RAYMART_PORT": str(port)}
    with output.open("wb") as lines:
        process = subprocess.Popen(
            [ROOT / ".venv" / "bin" / "raymart", "up"],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=lines,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        _wait_until_served(process, port, output)
        yield DATA / "credentials.json"
    finally:
        code = _stop(process)
    if code != 0:
        raise NoStackError(f"the stack ended with {code}:\n{_tail(output)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_served(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    until = time.monotonic() + _READY_S
    while not _is_served(port):
        if process.poll() is not None:
            raise NoStackError(f"the stack did not start:\n{_tail(output)}")
        if time.monotonic() > until:
            raise NoStackError(f"the stack was not ready within {_READY_S:.0f} s:\n{_tail(output)}")
        time.sleep(0.5)


def _is_served(port: int) -> bool:
    """Whether every model of the demo has both its endpoints."""
    try:
        key = json.loads((DATA / "credentials.json").read_text())["customer"]["api_key"]
        return all(_endpoints(port, model, key) >= 2 for model in MODELS)
    except (OSError, ValueError, KeyError):
        return False


def _endpoints(port: int, model: str, key: str) -> int:
    url = f"http://127.0.0.1:{port}/v1/models/{urllib.parse.quote(model, safe='/')}/endpoints"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=2) as answer:
        return len(json.load(answer)["data"]["endpoints"])


def _stop(process: subprocess.Popen[bytes]) -> int:
    """As Ctrl-C does."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()  # Its guardian stops the rest.
        process.wait()
        return -signal.SIGKILL


def _tail(output: Path) -> str:
    return output.read_text(errors="replace")[-3_000:]
