"""The clients' folders: each is run by somebody, and pinned to the last dependency, by no registry in particular."""

import json
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLIENTS = sorted(
    path.parent.name for path in HERE.glob("*/*") if path.name in {"requirements.txt", "package.json"}
)
_PIN = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==[A-Za-z0-9.+!]+")


def pins(client: str) -> list[str]:
    lines = (HERE / client / "requirements.txt").read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


class TestClients:
    def test_every_folder_with_pins_is_a_client_whose_checks_exist(self):
        catalogue = (HERE / "catalogue.py").read_text()
        named = re.findall(r'name="(\w+)",\s*checks=\(([^)]*)\)', catalogue)
        assert sorted([name for name, _ in named] + ["node"]) == CLIENTS
        for name, checks in named:
            for check in re.findall(r'"([^"]+)"', checks):
                assert (HERE / name / check).is_file(), f"{name}/{check}"

    @pytest.mark.parametrize(
        "client", [client for client in CLIENTS if (HERE / client / "requirements.txt").exists()]
    )
    def test_python_pins_are_exact(self, client):
        assert pins(client)
        assert [line for line in pins(client) if not _PIN.fullmatch(line)] == []

    @pytest.mark.parametrize(
        "client", [client for client in CLIENTS if (HERE / client / "requirements.in").exists()]
    )
    def test_what_is_asked_for_is_what_is_locked(self, client):
        """A version that was moved in one file alone would be installed by nobody."""
        asked = re.findall(
            r"^([\w.-]+)(?:\[[^\]]*\])?==([\w.]+)",
            (HERE / client / "requirements.in").read_text(),
            re.MULTILINE,
        )
        locked = {pin.partition("[")[0].partition("==")[0]: pin.partition("==")[2] for pin in pins(client)}
        assert asked
        assert {name: locked[name] for name, _ in asked} == dict(asked)

    @pytest.mark.parametrize(
        "client", [client for client in CLIENTS if (HERE / client / "package.json").exists()]
    )
    def test_npm_locks_name_the_asked_versions_and_no_registry(self, client):
        asked = json.loads((HERE / client / "package.json").read_text())["dependencies"]
        packages = json.loads((HERE / client / "package-lock.json").read_text())["packages"]
        locked = {name: packages[f"node_modules/{name}"]["version"] for name in asked}
        assert locked == asked
        assert not any("resolved" in package for package in packages.values())
