"""Logs of parts: what the console shows, and reading them while they grow."""

import contextlib
import io
import json
import os
from pathlib import Path

import pytest

from raymart_local import logs
from raymart_local.logs import Console, PartLog, important


class TestImportant:
    @pytest.mark.parametrize(
        "line",
        [
            "2026-11-20 12:00:00.000 UTC [17] FATAL:  database files are incompatible with server",
            "[2026-11-20 12:00:00,000: ERROR/MainProcess] consumer: Cannot connect to redis://",
            "Traceback (most recent call last):",
            "ModuleNotFoundError: No module named 'nothing'",
            "raymart_core.errors.Unavailable: the database is away",
            "raymart: cannot listen on 127.0.0.1:8000",
        ],
    )
    def test_warning_or_worse_is_shown(self, line: str):
        assert important(line) is not None

    @pytest.mark.parametrize(
        "line",
        [
            "2026-11-20 12:00:00.000 UTC [17] LOG:  database system is ready to accept connections",
            "INFO:     Application startup complete.",
            "",
            json.dumps({"event": "link.live", "level": "info", "reason": "an ERROR earlier"}),
            "{not json",
        ],
    )
    def test_the_rest_is_not(self, line: str):
        assert important(line) is None

    def test_event_is_shortened_to_one_line_without_its_traceback(self):
        event = {
            "event": "operation.failed", "level": "error", "timestamp": "2026", "process": "api", "path": "x",
            "exception": "Traceback (most recent call last):\n  File\nTypeError: no",
        }  # fmt: skip
        assert important(json.dumps(event)) == "error operation.failed path=x exception=TypeError: no"

    def test_long_line_is_cut(self):
        assert len(important("ERROR " + "x" * 10_000) or "") == logs.LINE_CHARACTERS_MAX


class TestPartLog:
    def test_new_lines_are_whole_lines_written_since_the_last_call(self, tmp_path: Path):
        log = PartLog(tmp_path / "logs" / "part.log")
        with log.open() as file:
            file.write(b"one\ntwo\nthr")
            file.flush()
            assert list(log.new_lines()) == ["one", "two"]
            file.write(b"ee\n")
            file.flush()
            assert list(log.new_lines()) == ["three"]
            assert list(log.new_lines()) == []

    def test_says_looks_only_at_this_start(self, tmp_path: Path):
        log = PartLog(tmp_path / "part.log")
        with log.open() as file:
            file.write(b"ready.\n")
        assert log.says("ready.")
        with log.open():
            assert not log.says("ready.")
            assert list(log.new_lines()) == []

    def test_large_log_moves_aside_at_the_next_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(logs, "LOG_BYTES_MAX", 3)
        log = PartLog(tmp_path / "part.log")
        with log.open() as file:
            file.write(b"old log\n")
        with log.open() as file:
            file.write(b"new\n")
        assert (tmp_path / "part.log").read_text() == "new\n"
        assert (tmp_path / "part.log.1").read_text() == "old log\n"

    def test_last_lines_of_no_log_are_none(self, tmp_path: Path):
        assert list(PartLog(tmp_path / "part.log").last_lines(3)) == []


class TestConsole:
    def test_no_colour_codes_where_there_is_no_terminal(self):
        stream = io.StringIO()
        Console(stream, name_width=4).warn("api", "died")
        assert stream.getvalue() == "api  | died\n"

    def test_closed_pipe_is_no_failure(self):
        reader, writer = os.pipe()
        os.close(reader)
        with contextlib.suppress(OSError), open(writer, "w") as stream:
            Console(stream).say("api", "ready")
            Console(stream).say("api", "stopped")
