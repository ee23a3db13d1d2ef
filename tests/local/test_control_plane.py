"""Which parts the control plane has, and what they inherit."""

import socket
from pathlib import Path

import pytest

from raymart_local.control_plane import ControlPlane
from raymart_local.errors import PortBusy
from raymart_local.layout import Layout
from raymart_local.ports import free_port
from raymart_local.settings import LocalSettings
from raymart_local.stack import without_control_secrets

DATABASE = "postgresql://u:p@db.example:5432/raymart"
REDIS = "redis://:p@cache.example:6379/0"


@pytest.fixture(autouse=True)
def no_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "BROKER_URL"):
        monkeypatch.delenv(name, raising=False)


def control(tmp_path: Path, **urls: str) -> ControlPlane:
    settings = LocalSettings(port=free_port(), data_dir=tmp_path, **urls)
    return ControlPlane(settings, layout=Layout(tmp_path), environment={"PATH": "/bin"}, endpoints_min=2)


def needs(plane: ControlPlane) -> dict[str, tuple[str, ...]]:
    return {part.name: part.needs for part in plane.parts()}


class TestParts:
    def test_everything_is_embedded_by_default(self, tmp_path: Path):
        assert needs(control(tmp_path)) == {
            "postgres": (),
            "redis": (),
            # Redis too: every part's environment names its port.
            "migrate": ("postgres", "redis"),
            "seed": ("migrate",),
            "api": ("seed", "redis"),
            "celery-worker": ("migrate", "redis"),
            "celery-beat": ("migrate", "redis"),
        }

    def test_database_url_replaces_postgres(self, tmp_path: Path):
        plane = control(tmp_path, database_url=DATABASE)
        assert "postgres" not in needs(plane)
        assert needs(plane)["migrate"] == ("redis",)

    def test_one_of_the_redis_urls_leaves_redis_for_the_other(self, tmp_path: Path):
        assert "redis" in needs(control(tmp_path, broker_url="amqp://broker.example"))
        both = control(tmp_path, broker_url="amqp://broker.example", redis_url=REDIS)
        assert "redis" not in needs(both)
        assert needs(both)["api"] == ("seed",)

    def test_busy_port_is_named_with_its_setting(self, tmp_path: Path):
        plane = control(tmp_path)
        port = int(plane.base_url.rsplit(":", 1)[1])
        with (
            socket.create_server(("127.0.0.1", port)),
            pytest.raises(PortBusy, match=f"{port}.*RAYMART_PORT"),
        ):
            plane.parts()


class TestEnvironment:
    def test_given_urls_are_passed_on(self, tmp_path: Path):
        plane = control(tmp_path, database_url=DATABASE, redis_url=REDIS, broker_url="amqp://broker.example")
        environment = plane.environment()
        assert environment["DATABASE_URL"] == DATABASE
        assert environment["REDIS_URL"] == REDIS
        assert environment["BROKER_URL"] == "amqp://broker.example"
        assert environment["PATH"] == "/bin"
        assert environment["RAYMART_HOST"] == "127.0.0.1"
        assert environment["RAYMART_READY_ENDPOINTS_MIN"] == "2"

    def test_token_secret_is_the_same_at_each_start(self, tmp_path: Path):
        urls = {"database_url": DATABASE, "redis_url": REDIS, "broker_url": REDIS}
        first, second = (control(tmp_path, **urls).environment()["RAYMART_TOKEN_SECRET"] for _ in range(2))
        assert first == second
        assert len(first.encode()) >= 32

    def test_only_the_migration_gets_the_owners_url(self, tmp_path: Path):
        urls = {"database_url": DATABASE, "redis_url": REDIS, "broker_url": REDIS}
        plane = control(tmp_path, **urls, migration_database_url="postgresql://owner@db/raymart")
        with_url = {part.name for part in plane.parts() if "MIGRATION_DATABASE_URL" in part.program().env}
        assert with_url == {"migrate"}

    def test_the_seal_key_is_kept_and_the_head_lies_outside_the_database(self, tmp_path: Path):
        urls = {"database_url": DATABASE, "redis_url": REDIS, "broker_url": REDIS}
        first, second = (control(tmp_path, **urls).environment() for _ in range(2))
        assert first["RAYMART_LEDGER_SEAL_KEY"] == second["RAYMART_LEDGER_SEAL_KEY"]
        assert len(first["RAYMART_LEDGER_SEAL_KEY"]) >= 32
        assert first["RAYMART_LEDGER_HEAD_FILE"] == str(tmp_path / "ledger" / "head.json")


class TestWithoutControlSecrets:
    def test_nothing_that_opens_the_control_plane_is_passed_on(self):
        secrets = {
            "DATABASE_URL": DATABASE, "REDIS_URL": REDIS, "BROKER_URL": REDIS, "RAYMART_TOKEN_SECRET": "x" * 32
        }  # fmt: skip
        passed = without_control_secrets({**secrets, "PATH": "/bin", "RAYMART_DRAIN_S": "1"})
        assert passed == {"PATH": "/bin", "RAYMART_DRAIN_S": "1"}


class TestSettings:
    def test_urls_come_from_their_usual_names(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("DATABASE_URL", DATABASE)
        monkeypatch.setenv("RAYMART_PORT", "18000")
        monkeypatch.setenv("RAYMART_DATA_DIR", "/srv/raymart")
        settings = LocalSettings()
        assert (settings.database_url, settings.port) == (DATABASE, 18_000)
        assert settings.data_dir == Path("/srv/raymart")
