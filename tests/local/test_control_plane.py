"""Which parts the control plane has, and what they inherit."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from raymart_local.control_plane import ControlPlane
from raymart_local.errors import PortBusy
from raymart_local.layout import Layout
from raymart_local.ports import free_port
from raymart_local.settings import LocalSettings
from raymart_local.solana import CHAIN_NAMES, SIGNING_NAMES
from raymart_local.stack import without_control_secrets

DATABASE = "postgresql://u:p@db.example:5432/raymart"
REDIS = "redis://:p@cache.example:6379/0"


@pytest.fixture(autouse=True)
def no_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "SOLANA_RPC_URL"):
        monkeypatch.delenv(name, raising=False)


def control(tmp_path: Path, *, environment: Mapping[str, str] | None = None, **urls: str) -> ControlPlane:
    settings = LocalSettings(port=free_port(), data_dir=tmp_path, **urls)
    return ControlPlane(
        settings,
        layout=Layout(tmp_path),
        environment={"PATH": "/bin", **(environment or {})},
        endpoints_min=2,
    )


def environments(plane: ControlPlane) -> dict[str, Mapping[str, str]]:
    """What each part's process gets, as if the stores ran elsewhere and the chain were ready."""
    return {part.name: part.program().env for part in plane.parts()}


def needs(plane: ControlPlane) -> dict[str, tuple[str, ...]]:
    return {part.name: part.needs for part in plane.parts()}


class TestParts:
    def test_everything_is_embedded_by_default(self, tmp_path: Path):
        assert needs(control(tmp_path)) == {
            "postgres": (),
            "redis": (),
            "solana": (),
            # Redis too: every part's environment names its port.
            "migrate": ("postgres", "redis"),
            "seed": ("migrate",),
            "api": ("seed", "redis", "solana"),
            "celery-worker": ("migrate", "redis", "solana"),
            "celery-beat": ("migrate", "redis", "solana"),
        }

    def test_database_url_replaces_postgres(self, tmp_path: Path):
        plane = control(tmp_path, database_url=DATABASE)
        assert "postgres" not in needs(plane)
        assert needs(plane)["migrate"] == ("redis",)

    def test_one_of_the_redis_urls_leaves_redis_for_the_other(self, tmp_path: Path):
        assert "redis" in needs(control(tmp_path, broker_url="amqp://broker.example"))
        both = control(tmp_path, broker_url="amqp://broker.example", redis_url=REDIS)
        assert "redis" not in needs(both)
        assert needs(both)["api"] == ("seed", "solana")

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

    def test_on_loopback_it_is_open_to_look_around(self, tmp_path: Path):
        environment = control(
            tmp_path, database_url=DATABASE, redis_url=REDIS, broker_url=REDIS
        ).environment()
        assert environment["RAYMART_DEVELOPMENT"] == "true"
        assert environment["RAYMART_REQUIRE_SECOND_FACTOR"] == "false"

    def test_where_others_reach_it_nothing_is_open_unless_it_is_said(self, tmp_path: Path):
        urls = {"database_url": DATABASE, "redis_url": REDIS, "broker_url": REDIS}
        plane = control(tmp_path, **urls, host="0.0.0.0")
        environment = plane.environment()
        assert environment["RAYMART_HOST"] == "0.0.0.0"
        assert plane.base_url.startswith("http://127.0.0.1:")
        assert not {"RAYMART_DEVELOPMENT", "RAYMART_REQUIRE_SECOND_FACTOR"} & environment.keys()
        told = {"RAYMART_REQUIRE_SECOND_FACTOR": "false"}
        told_environment = control(tmp_path, environment=told, **urls, host="10.0.0.1").environment()
        assert told_environment["RAYMART_REQUIRE_SECOND_FACTOR"] == "false"
        assert told_environment["RAYMART_PUBLIC_URL"].startswith("http://10.0.0.1:")

    def test_a_host_that_is_no_address_is_refused(self):
        with pytest.raises(ValueError, match="market"):
            LocalSettings(host="market.example")

    def test_token_secret_is_the_same_at_each_start(self, tmp_path: Path):
        urls = {"database_url": DATABASE, "redis_url": REDIS, "broker_url": REDIS}
        first, second = (control(tmp_path, **urls).environment()["RAYMART_TOKEN_SECRET"] for _ in range(2))
        assert first == second
        assert len(first.encode()) >= 32

    def test_only_the_migration_gets_the_owners_url(self, tmp_path: Path):
        urls = {"database_url": DATABASE, "redis_url": REDIS, "broker_url": REDIS}
        told_by_the_chain(tmp_path)
        plane = control(tmp_path, **urls, migration_database_url="postgresql://owner@db/raymart")
        with_url = {part.name for part in plane.parts() if "MIGRATION_DATABASE_URL" in part.program().env}
        assert with_url == {"migrate"}

    def test_the_seal_key_is_kept_and_the_head_lies_outside_the_database(self, tmp_path: Path):
        urls = {"database_url": DATABASE, "redis_url": REDIS, "broker_url": REDIS}
        first, second = (control(tmp_path, **urls).environment() for _ in range(2))
        assert first["RAYMART_LEDGER_SEAL_KEY"] == second["RAYMART_LEDGER_SEAL_KEY"]
        assert len(first["RAYMART_LEDGER_SEAL_KEY"]) >= 32
        assert first["RAYMART_LEDGER_HEAD_FILE"] == str(tmp_path / "ledger" / "head.json")

    def test_the_key_of_private_models_is_kept_and_one_that_is_given_counts(self, tmp_path: Path):
        first, second = (control(tmp_path, **STORES).environment()["RAYMART_MODEL_KEY"] for _ in range(2))
        assert first == second
        assert len(first) >= 32
        given = control(tmp_path, **STORES, environment={"RAYMART_MODEL_KEY": "new,old"})
        assert given.environment()["RAYMART_MODEL_KEY"] == "new,old"

    def test_api_and_workers_keep_files_in_one_place(self, tmp_path: Path):
        told_by_the_chain(tmp_path)
        found = environments(control(tmp_path, **STORES))
        folders = {found[name]["RAYMART_DATA_DIR"] for name in ("api", "celery-worker", "celery-beat")}
        assert folders == {str(tmp_path)}


class TestOperatorEnvironment:
    def test_operator_gets_what_the_api_has_and_nothing_to_send_money_with(self, tmp_path: Path):
        told_by_the_chain(tmp_path)
        given = {"RAYMART_TREASURY_KEYPAIR": "/keys/treasury.json", "RAYMART_FEE_BASIS_POINTS": "500"}
        plane = control(tmp_path, **STORES, environment=given)
        told, api = plane.operator_environment(), environments(plane)["api"]
        needed = {"DATABASE_URL", "REDIS_URL", "SOLANA_RPC_URL", "RAYMART_DATA_DIR", "RAYMART_MODEL_KEY"}
        assert {"RAYMART_FEE_BASIS_POINTS", "RAYMART_TOKEN_SECRET", *needed} <= told.keys()
        assert not {*SIGNING_NAMES, "MIGRATION_DATABASE_URL", "PATH"} & told.keys()
        assert told.items() <= api.items()


def told_by_the_chain(tmp_path: Path) -> None:
    """As if the embedded chain had become ready."""
    layout = Layout(tmp_path)
    layout.solana.mkdir()
    layout.solana_chain.write_text(json.dumps(OWN_CHAIN))


STORES = {"database_url": DATABASE, "redis_url": REDIS, "broker_url": REDIS}
OWN_CHAIN = {
    "rpc_url": "http://127.0.0.1:4242",
    "usdc_mint": "UsdcMint",
    "treasury": "Treasury",
    "genesis_hash": "Genesis",
}


class TestChain:
    @pytest.fixture
    def embedded(self, tmp_path: Path) -> dict[str, Mapping[str, str]]:
        """The caller's environment names another chain's treasury, which a chain of our own must not meet."""
        foreign = {
            "SOLANA_RPC_URL": "https://mainnet.example",
            "RAYMART_TREASURY_KEYCHAIN": "{}",
            "RAYMART_USDC_MINT": "Circle",
            "RAYMART_TREASURY_ADDRESS": "Foreign",
        }
        told_by_the_chain(tmp_path)
        return environments(control(tmp_path, **STORES, environment=foreign))

    def test_everybody_who_needs_it_is_told_of_the_chain(self, embedded: dict[str, Mapping[str, str]]):
        for name in ("api", "celery-worker", "celery-beat"):
            assert embedded[name]["SOLANA_RPC_URL"] == OWN_CHAIN["rpc_url"]
            assert embedded[name]["RAYMART_SOLANA_CHAIN_ID"] == "solana:localnet"
            assert embedded[name]["RAYMART_USDC_MINT"] == "UsdcMint"
            assert embedded[name]["RAYMART_TREASURY_ADDRESS"] == "Treasury"

    def test_only_the_worker_can_sign(self, tmp_path: Path, embedded: dict[str, Mapping[str, str]]):
        signers = {name for name, environment in embedded.items() if SIGNING_NAMES & environment.keys()}
        assert signers == {"celery-worker"}
        worker = embedded["celery-worker"]
        assert worker["RAYMART_TREASURY_KEYPAIR"] == str(Layout(tmp_path).treasury_keypair)
        assert len(worker["RAYMART_PAYOUT_MARKER_KEY"]) >= 32
        assert "RAYMART_TREASURY_KEYCHAIN" not in worker

    def test_the_chain_itself_knows_nothing_of_the_control_plane(
        self, embedded: dict[str, Mapping[str, str]]
    ):
        assert set(embedded["solana"]) == {"PATH", "LC_ALL", "PYTHONUNBUFFERED"}

    def test_the_marker_key_is_kept(self, tmp_path: Path, embedded: dict[str, Mapping[str, str]]):
        again = environments(control(tmp_path, **STORES))["celery-worker"]
        assert again["RAYMART_PAYOUT_MARKER_KEY"] == embedded["celery-worker"]["RAYMART_PAYOUT_MARKER_KEY"]

    def test_a_url_replaces_it_and_the_keys_still_reach_workers_alone(self, tmp_path: Path):
        given = {
            "SOLANA_RPC_URL": "https://rpc.example",
            "RAYMART_TREASURY_ADDRESS": "Treasury",
            "RAYMART_TREASURY_KEYPAIR": "/keys/treasury.json",
            "RAYMART_PAYOUT_MARKER_KEY": "k" * 32,
        }
        plane = control(tmp_path, **STORES, solana_rpc_url="https://rpc.example", environment=given)
        found = environments(plane)
        assert "solana" not in found
        assert needs(plane)["api"] == ("seed",)
        assert found["api"]["SOLANA_RPC_URL"] == "https://rpc.example"
        assert found["api"]["RAYMART_TREASURY_ADDRESS"] == "Treasury"
        assert {name for name in found if SIGNING_NAMES & found[name].keys()} == {"celery-worker"}
        assert found["celery-worker"]["RAYMART_TREASURY_KEYPAIR"] == "/keys/treasury.json"

    def test_the_compute_plane_is_told_nothing_of_it(self):
        given = dict.fromkeys(CHAIN_NAMES, "x")
        assert without_control_secrets({**given, "PATH": "/bin"}) == {"PATH": "/bin"}


class TestWithoutControlSecrets:
    def test_nothing_that_opens_the_control_plane_is_passed_on(self):
        secrets = {
            "DATABASE_URL": DATABASE, "REDIS_URL": REDIS, "BROKER_URL": REDIS, "RAYMART_TOKEN_SECRET": "x" * 32,
            "RAYMART_MODEL_KEY": "x" * 32, "RAYMART_OBJECTS_SECRET_ACCESS_KEY": "x",
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
