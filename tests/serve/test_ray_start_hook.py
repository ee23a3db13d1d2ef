import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from raymart_serve.ray_start_hook import shape_node


@dataclass
class Parameters:
    """Stands for Ray's own."""

    ray_client_server_port: int | None = 10_001
    raylet_socket_name: str | None = None
    plasma_store_socket_name: str | None = None
    redis_password: str = ""


class TestShapeNode:
    def test_a_node_gets_its_own_sockets_and_no_client_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAYMART_RAY_SOCKETS", "/tmp/session/sockets/demo-a")
        parameters = Parameters()
        shape_node(parameters, False)
        assert parameters == Parameters(
            ray_client_server_port=None,
            raylet_socket_name=f"/tmp/session/sockets/demo-a-{os.getpid()}-raylet",
            plasma_store_socket_name=f"/tmp/session/sockets/demo-a-{os.getpid()}-store",
        )

    def test_without_a_prefix_ray_names_the_sockets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RAYMART_RAY_SOCKETS", raising=False)
        parameters = Parameters()
        shape_node(parameters, True)
        assert parameters == Parameters(ray_client_server_port=None)

    def test_only_a_head_gets_the_password_of_its_store(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "password").write_text("secret\n")
        monkeypatch.setenv("RAYMART_RAY_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
        head, node = Parameters(), Parameters()
        shape_node(head, True)
        shape_node(node, False)
        assert (head.redis_password, node.redis_password) == ("secret", "")
