import os
import subprocess
import sys
from pathlib import Path

import pytest

from raymart_serve.ray_node import agent_ports, asks_for_loopback, value_of


class TestAsksForLoopback:
    @pytest.mark.parametrize(
        ("arguments", "answer"),
        [
            (["start", "--node-ip-address=127.0.0.1"], True),
            (["start", "--node-ip-address", "127.0.0.1", "--head"], True),
            (["start", "--node-ip-address=10.0.0.5"], False),
            (["start", "--address=127.0.0.1:6379"], False),
            (["start", "--node-ip-address"], False),
            ([], False),
        ],
    )
    def test_both_spellings_are_known(self, arguments: list[str], *, answer: bool) -> None:
        assert asks_for_loopback(arguments) is answer


class TestValueOf:
    def test_the_last_value_counts_in_either_spelling(self) -> None:
        assert value_of("--temp-dir", ["--temp-dir=/a", "--temp-dir", "/b"]) == "/b"
        assert value_of("--temp-dir", ["--temp-dir", "/b", "--temp-dir=/a"]) == "/a"
        assert value_of("--temp-dir", ["--head", "--temp-directory=/a"]) is None
        assert value_of("--temp-dir", ["--temp-dir"]) is None


class TestAgentPorts:
    def test_a_node_that_starts_gets_three_that_differ(self) -> None:
        given = [argument.partition("=") for argument in agent_ports(["start", "--head"])]
        assert [flag for flag, _, _ in given] == [
            "--runtime-env-agent-port",
            "--dashboard-agent-grpc-port",
            "--dashboard-agent-listen-port",
        ]
        assert len({int(port) for _, _, port in given}) == 3

    def test_those_that_are_named_stay(self) -> None:
        given = agent_ports(["start", "--dashboard-agent-grpc-port", "7000", "--runtime-env-agent-port=7001"])
        assert [argument.partition("=")[0] for argument in given] == ["--dashboard-agent-listen-port"]

    def test_other_commands_get_none(self) -> None:
        assert agent_ports(["stop"]) == agent_ports([]) == []


class TestRefusal:
    """Ray without explicit authentication is open to the network, or closed by somebody else's token."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({}, "RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH must be set"),
            ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_TOKEN_PATH must be set"),
            ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": "{token}"}, "RAY_AUTH_MODE must be set"),
            ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "{gone}"}, "is no file with a token"),
            ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "{empty}"}, "is no file with a token"),
        ],
    )
    def test_it_does_not_start(self, tmp_path: Path, change: dict[str, str], message: str) -> None:
        (tmp_path / "token").write_text("t")
        (tmp_path / "empty").touch()
        paths = {name: str(tmp_path / name) for name in ("token", "gone", "empty")}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {name: value.format(**paths) for name, value in change.items()}
        ended = subprocess.run(
            [sys.executable, "-m", "raymart_serve.ray_node", "start", "--head", "--port=1"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == 2
        assert message in ended.stderr


class TestImports:
    def test_only_what_a_start_needs_is_imported(self, tmp_path: Path) -> None:
        """Every second of a start is one in which a machine that comes back sells nothing."""
        (tmp_path / "token").write_text("t")
        authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
        ended = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "raymart_serve.ray_node", "start", "--help"],
            env={**os.environ, **authentication},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "--address" in ended.stdout
        imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
        assert "ray.scripts.scripts" in imported
        assert not imported & {"ray.serve", "fastapi", "ray.util.state.api"}
