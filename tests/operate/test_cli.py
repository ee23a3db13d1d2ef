"""The operator's command line: as a process where the process matters, else in this one."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from raymart_core.errors import NotFound
from raymart_graphql import cli
from raymart_graphql.operator.serving import WEBSOCKET_BYTES_MAX
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.service import is_administrator
from raymart_marketplace.accounts.tokens import AccessTokens
from raymart_marketplace.db.scripts import heads
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.enrolment import enrol
from support.command_line import RAYMART, SECRET, environment, failed, run, run_process
from support.logins import log_in
from support.market import enrol_message, make_customer, make_pool, make_provider

DEAR = {"alembic", "stripe", "celery", "redis", "strawberry", "fastapi", "uvicorn", "ray", "typst"}
"""Libraries that take long to import and that few commands use."""


class TestDatabase:
    def test_up_check_current_down(self, empty_database_url: str):
        [head] = heads()
        assert run(empty_database_url, "db", "current").stdout == "base\n"
        assert "not up to date" in failed(run_process(empty_database_url, "db", "check"))
        assert (
            run(empty_database_url, "db", "upgrade", "--revision", "0001").stdout
            == "the database is at 0001\n"
        )
        assert run(empty_database_url, "db", "upgrade").stdout == f"the database is at {head}\n"
        assert run(empty_database_url, "db", "check").stdout == "the database matches the models\n"
        assert "--yes" in failed(run(empty_database_url, "db", "downgrade", "base"))
        assert run(empty_database_url, "db", "current").stdout == f"{head}\n"
        assert (
            run(empty_database_url, "db", "downgrade", "base", "--yes").stdout == "the database is at base\n"
        )

    def test_unknown_revision_is_one_line(self, empty_database_url: str):
        assert "9999" in failed(run(empty_database_url, "db", "upgrade", "--revision", "9999"))


class TestPermissions:
    def test_the_page_for_people_is_what_the_table_says(self):
        """Write it anew: `raymart permissions > docs/permissions.md`."""
        page = Path(__file__).parents[2] / "docs" / "permissions.md"
        assert run(None, "permissions").stdout == page.read_text()


class TestSettings:
    def test_missing_variable_is_named(self):
        assert "DATABASE_URL: Field required" in failed(run_process(None, "db", "current"), status=2)

    def test_other_databases_url_is_refused(self):
        assert "DATABASE_URL" in failed(run("mysql://127.0.0.1/raymart", "db", "current"), status=2)

    def test_short_secret_is_refused_without_showing_it(self, database_url: str):
        done = run(database_url, "token", "issue", "--email", "a@b.c", RAYMART_TOKEN_SECRET="hunter2")
        line = failed(done, status=2)
        assert "openssl rand -hex 32" in line
        assert "hunter2" not in line

    def test_unreachable_database_is_one_line_without_the_password(self):
        line = failed(run_process("postgresql://raymart:hunter2@127.0.0.1:1/raymart", "db", "upgrade"))
        assert "DATABASE_URL" in line
        assert "hunter2" not in line

    def test_database_that_was_not_migrated_is_one_line(self, empty_database_url: str):
        assert "migrated" in failed(run(empty_database_url, "node", "list"))

    def test_unknown_command_is_misuse(self):
        assert run_process(None, "nonsense").returncode == 2


class TestAdmin:
    async def test_password_comes_from_standard_input(self, database_url: str, sessions: Sessions):
        email = f"admin-{os.getpid()}@example.com"
        done = run_process(database_url, "admin", "create", "--email", email, stdin="correct horse battery\n")
        assert done.returncode == 0, done
        assert "correct horse" not in done.stdout
        async with session_scope(sessions) as session:
            user = await log_in(session, email=email, password="correct horse battery")
            assert await is_administrator(session, user.id)
        again = run(database_url, "admin", "create", "--email", email, stdin="correct horse battery\n")
        assert "has an account already" in failed(again)

    def test_short_password_is_refused(self, database_url: str):
        done = run(database_url, "admin", "create", "--email", "a@example.com", stdin="short\n")
        assert "5 characters" in failed(done)


class TestToken:
    async def test_token_is_the_apis_own(self, database_url: str, sessions: Sessions):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
        done = run(database_url, "token", "issue", "--email", customer.email, "--ttl-s", "60")
        tokens = AccessTokens(SECRET.encode(), issuer="raymart", audience="raymart-api", ttl_s=900)
        claims = tokens.verify(done.stdout.strip())
        assert claims.user_id == customer.user.id
        assert tokens.seconds_left(claims) <= 60

    def test_unknown_user_is_refused(self, database_url: str):
        assert "no active user" in failed(
            run(database_url, "token", "issue", "--email", "nobody@example.com")
        )


class TestListings:
    async def test_nodes_are_joined_listed_and_revoked(self, database_url: str, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider, pool = await make_provider(session), await make_pool(session)
        done = run(database_url, "node", "token", "--pool", pool.slug, "--provider", provider.slug)
        assert done.stdout.startswith("rmj_")
        async with session_scope(sessions) as session:
            await enrol(session, enrol_message(done.stdout.strip(), name="gpu-1"))
        [row] = [
            row
            for row in json.loads(run(database_url, "node", "list", "-o", "json").stdout)
            if row["pool"] == pool.slug
        ]
        assert (row["name"], row["provider"], row["state"]) == ("gpu-1", provider.slug, "enrolled")
        assert "revoked" in run(database_url, "node", "revoke", row["id"]).stdout
        assert "retired" in run(database_url, "node", "list", COLUMNS="300").stdout

    async def test_pools_are_listed_with_their_drift(self, database_url: str, sessions: Sessions):
        async with session_scope(sessions) as session:
            pool = await make_pool(session)
        [row] = [
            row
            for row in json.loads(run(database_url, "pool", "list", "-o", "json").stdout)
            if row["slug"] == pool.slug
        ]
        assert (row["controller"], row["nodes"], row["drift"]) == ("", 0, 1)
        [drift] = json.loads(run(database_url, "pool", "drift", pool.slug, "-o", "json").stdout)
        assert (drift["kind"], "has never reported" in drift["reason"]) == ("no_controller", True)
        assert "raymart pool list" in failed(run(database_url, "pool", "drift", "nowhere"))

    async def test_providers_and_models_are_listed(self, database_url: str, sessions: Sessions):
        async with session_scope(sessions) as session:
            provider = await make_provider(session)
        listed = json.loads(run(database_url, "provider", "list", "-o", "json").stdout)
        assert provider.slug in {row["slug"] for row in listed}
        assert isinstance(json.loads(run(database_url, "model", "list", "--output", "json").stdout), list)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("node", "token", "--pool", "nowhere"), "there is no pool 'nowhere'"),
            (("node", "revoke", "node_1"), "is not an id"),
            (("node", "revoke", "node_" + "0" * 32), "there is no node"),
        ],
    )
    def test_wrong_names_are_one_line(self, database_url: str, arguments: tuple[str, ...], message: str):
        assert message in failed(run(database_url, *arguments))


class TestSeed:
    def test_seed_writes_its_files(
        self, migrated_database_url: str, redis_server: EmbeddedRedis, tmp_path: Path
    ):
        arguments = (
            "seed",
            "--output",
            str(tmp_path / "credentials.json"),
            "--base-url",
            "http://127.0.0.1:8000",
            "--join-tokens",
            str(tmp_path / "join"),
        )
        for _ in range(2):
            done = run(migrated_database_url, *arguments, REDIS_URL=redis_server.url)
            assert done.returncode == 0, done
        assert json.loads((tmp_path / "credentials.json").read_text())["customer"]["api_key"].startswith(
            "rm_live_"
        )


class TestCommandsOfOthers:
    def test_overview_lists_what_is_installed(self):
        done = run_process(None, "--help")
        assert done.returncode == 0
        for command in ("serve-api", "up", "demo", "doctor"):
            assert f" {command} " in done.stdout
        assert " seed " not in done.stdout

    def test_only_the_wanted_command_is_loaded(self, monkeypatch: pytest.MonkeyPatch):
        """`raymart seed` must not pay for importing the demo, nor fail because it cannot be."""
        broken = EntryPoint(name="broken", value="no_such_module:command", group=cli.COMMANDS_GROUP)
        monkeypatch.setattr(cli, "entry_points", lambda *, group: [broken])
        cli.command_line("seed")
        cli.command_line(None)
        with pytest.raises(NotFound, match=r"'broken' cannot be loaded: No module named 'no_such_module'"):
            cli.command_line("broken")


class TestDeferred:
    """Each run of `raymart` is a new process, so what it imports is what people and scripts wait for."""

    @pytest.mark.parametrize("name", cli.COMMANDS)
    def test_what_the_overview_names_can_be_loaded(self, name: str):
        done = CliRunner().invoke(cli.command_line(name), [name, "--help"])
        assert done.exit_code == 0, done
        assert f"raymart {name}" in done.output

    @pytest.mark.parametrize(
        ("wanted", "unwanted"),
        [
            (None, {"sqlalchemy", "psycopg", "cryptography", *DEAR}),
            ("ledger", {"jose", "httpx", *DEAR}),
            ("node", {"jose", "httpx", *DEAR}),
        ],
    )
    def test_libraries_that_a_command_does_not_use_are_not_imported(
        self, wanted: str | None, unwanted: set[str]
    ):
        script = (
            f"import sys; from raymart_graphql import cli; cli.command_line({wanted!r}); print(*sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        imported = set(done.stdout.split())
        assert "raymart_graphql.cli" in imported
        assert imported & unwanted == set()

    def test_who_supervises_workers_has_none_of_what_they_serve_with(self):
        """It lives as long as they do, and its memory is counted with theirs."""
        script = "import sys; from raymart_graphql.operator import supervisor; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        imported = set(done.stdout.split())
        assert "raymart_graphql.operator.workers" in imported
        assert imported & {"sqlalchemy", "pydantic", "redis", "uvicorn", "typer", "strawberry"} == set()


class TestServeApi:
    def test_busy_port_is_named(self, database_url: str):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = failed(run_process(database_url, "serve-api", "--port", str(port)))
        assert f"127.0.0.1:{port}" in line

    # Two workers import everything twice.
    @pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
    async def test_api_answers_and_stops_at_sigterm(self, database_url: str, workers: str):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            RAYMART,
            "serve-api",
            env=environment(database_url, RAYMART_PORT=str(port), RAYMART_WORKERS=workers),
            stderr=subprocess.PIPE,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                response = await _answer(client, "/health")
            assert response.status_code == 200
            assert "server" not in response.headers
            assert (await _status_of_a_large_head(port)).startswith(b"HTTP/1.1 431")
            await _websocket_has_limits(port)
            process.send_signal(signal.SIGTERM)
            _, errors = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode in {0, -signal.SIGTERM}, errors
            assert b"Traceback" not in errors
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _answer(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """The first answer of a process that is starting."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.get(path, timeout=5)
            except httpx.TransportError:
                await asyncio.sleep(0.1)


async def _status_of_a_large_head(port: int) -> bytes:
    """The status line that 100 KB of headers get: uvicorn alone would take them."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nhost: raymart\r\nx-large: " + b"a" * 100_000 + b"\r\n\r\n")
        status = await reader.readline()
        writer.close()
    return status.strip()


async def _websocket_has_limits(port: int) -> None:
    """No compression is agreed on, and a message over the limit ends the connection."""
    async with connect(
        f"ws://127.0.0.1:{port}/graphql", subprotocols=["graphql-transport-ws"], proxy=None, max_size=None
    ) as websocket:
        assert websocket.protocol.extensions == []
        await websocket.send("a" * (WEBSOCKET_BYTES_MAX + 1))
        with pytest.raises(ConnectionClosedError) as closed:
            await asyncio.wait_for(websocket.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
