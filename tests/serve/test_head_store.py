from pathlib import Path

from raymart_serve.head_store import forget_last_address, head_environment, surviving_environment


class TestHeadEnvironment:
    def test_the_password_is_named_by_its_file_only(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("secret")
        environment = head_environment(
            redis_address="10.0.0.1:6379", password_file=tmp_path / "password", namespace="house"
        )
        assert environment["RAY_REDIS_ADDRESS"] == "10.0.0.1:6379"
        assert environment["RAY_external_storage_namespace"] == "house"
        assert environment["RAYMART_RAY_REDIS_PASSWORD_FILE"] == str(tmp_path / "password")
        assert "secret" not in environment.values()

    def test_a_head_waits_as_its_nodes_do(self) -> None:
        environment = head_environment(redis_address="10.0.0.1:6379", password_file=None, namespace="house")
        assert environment.items() >= surviving_environment().items()
        assert "RAYMART_RAY_REDIS_PASSWORD_FILE" not in environment


class TestForgetLastAddress:
    def test_what_ray_start_would_take_for_a_running_head_is_gone(self, tmp_path: Path) -> None:
        (tmp_path / "ray_current_cluster").write_text("127.0.0.1:6379")
        forget_last_address(tmp_path)
        forget_last_address(tmp_path)
        assert list(tmp_path.iterdir()) == []
