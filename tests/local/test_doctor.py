import socket
from pathlib import Path

import pytest

from raymart_local import doctor
from raymart_local.doctor import Finding, findings
from raymart_local.settings import LocalSettings


def found(settings: LocalSettings) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings(settings)}


class TestFindings:
    def test_this_machine_can_run_the_stack(self, tmp_path: Path):
        checks = found(LocalSettings(port=1, data_dir=tmp_path))
        assert {
            "Python",
            "memory",
            "disk",
            "API port",
            "Postgres",
            "Redis",
            "Solana",
            "Ray",
            "engine",
        } <= checks.keys()
        for name in ("Python", "Postgres", "Redis", "Solana", "Ray", "engine", "data directory"):
            assert checks[name].is_ok, checks[name]

    def test_each_lack_says_what_to_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(doctor, "MEMORY_BYTES_MIN", 10**18)
        monkeypatch.setattr(doctor, "DISK_BYTES_MIN", 10**18)
        monkeypatch.setattr(doctor, "_importable", lambda check, *_: doctor._python())
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            checks = found(LocalSettings(port=port, data_dir=tmp_path / "not" / "there"))
        for name in ("memory", "disk", "API port"):
            assert not checks[name].is_ok
            assert checks[name].fix
        assert str(port) in checks["API port"].result

    def test_module_that_does_not_import_is_told_by_its_last_line(self):
        finding = doctor._importable("nothing", "no_such_module_anywhere")
        assert not finding.is_ok
        assert "No module named 'no_such_module_anywhere'" in finding.result
