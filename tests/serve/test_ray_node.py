import os
import subprocess
import sys
from pathlib import Path

import pytest

from raymart_serve.ray_node import asks_for_loopback


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
