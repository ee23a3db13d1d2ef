"""Logs of a stack's parts: each part writes its own file; the important lines also appear on the console."""

import contextlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TextIO

LOG_BYTES_MAX = 20_000_000
"""A log larger than this moves to `<name>.log.1` when its part starts."""
LINE_CHARACTERS_MAX = 400
READ_BYTES_MAX = 262_144

_COLOURS = (36, 32, 35, 34, 33, 96, 92, 95, 94, 93)
_RED = 31
_IMPORTANT = re.compile(
    r"\b(WARNING|WARN|ERROR|CRITICAL|FATAL|PANIC|Traceback)\b"
    # The last line of a traceback, and what our own commands say when they cannot go on.
    r"|^(?:\w+\.)*\w*(?:Error|Exception)\b|^(?:\w+\.)+[A-Z]\w*: |^raymart[\w-]*: "
)


class Console:
    """Lines for the person at the terminal, each with its part's name in front; coloured on a terminal only."""

    def __init__(self, stream: TextIO = sys.stdout, *, name_width: int = 13) -> None:
        self._stream = stream
        self._coloured = stream.isatty()
        self._name_width = name_width
        self._colours: dict[str, int] = {}

    def say(self, name: str, text: str) -> None:
        """One line of ours about `name`."""
        self._write(name, text, colour=None)

    def warn(self, name: str, text: str) -> None:
        """One line that somebody should read."""
        self._write(name, text, colour=_RED)

    def _write(self, name: str, text: str, *, colour: int | None) -> None:
        label = f"{name:<{self._name_width}} |"
        if self._coloured:
            own = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            label = f"\x1b[{own}m{label}\x1b[0m"
            text = f"\x1b[{colour}m{text}\x1b[0m" if colour else text
        # A terminal that was closed, or a pipe whose reader has left, must not keep a stack from stopping in order.
        with contextlib.suppress(OSError):
            self._stream.write(f"{label} {text}\n")
            self._stream.flush()


class PartLog:
    """The log file of one part. The part writes into the file itself, so that it never waits for us or dies with us."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened_at_bytes = 0
        self._read_bytes = 0
        self._rest = b""

    def open(self) -> IO[bytes]:
        """The file, to append to; reading goes on where it ended now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > LOG_BYTES_MAX:
            self.path.replace(self.path.with_name(self.path.name + ".1"))
        file = self.path.open("ab")
        self._opened_at_bytes = self._read_bytes = file.tell()
        self._rest = b""
        return file

    def says(self, text: str) -> bool:
        """Whether `text` was written since the file was opened, within its first 256 KiB."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._opened_at_bytes)
                return text.encode() in file.read(READ_BYTES_MAX)
        except FileNotFoundError:
            return False

    def new_lines(self) -> Sequence[str]:
        """Whole lines written since the last call, at most 256 KiB of them; the rest comes next time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_bytes)
                written = file.read(READ_BYTES_MAX)
        except FileNotFoundError:
            return ()
        self._read_bytes += len(written)
        *lines, self._rest = (self._rest + written).split(b"\n")
        return [line.decode(errors="replace").rstrip("\r") for line in lines]

    def last_lines(self, count: int) -> Sequence[str]:
        """The last `count` lines, for a message about a failure."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self.path.stat().st_size - READ_BYTES_MAX))
                return file.read().decode(errors="replace").rstrip().splitlines()[-count:]
        except FileNotFoundError:
            return ()


def important(line: str) -> str | None:
    """The line as the console shows it, when it deserves that: a warning or worse; else None."""
    if line.startswith("{"):
        return _important_event(line)
    return line[:LINE_CHARACTERS_MAX] if _IMPORTANT.search(line) else None


def _important_event(line: str) -> str | None:
    """The same for one of our own JSON events, shortened to `level event field=value ...`."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    level = event.pop("level", "info")
    if level not in {"warning", "error", "critical"}:
        return None
    event.pop("timestamp", None)
    event.pop("process", None)
    name = event.pop("event", "?")
    if "exception" in event:
        # The last line of a traceback says what happened; the log has the rest.
        event["exception"] = str(event["exception"]).rstrip().rsplit("\n", 1)[-1]
    fields = " ".join(f"{key}={value}" for key, value in event.items())
    return f"{level} {name} {fields}"[:LINE_CHARACTERS_MAX]
