"""What supervisors and Prometheus read, and what else answers on the port."""

import time

import httpx
import psycopg

from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from support.api_server import Api, Seller, api_server, control_settings
from support.scripted_replica import ScriptedReplica


class TestReady:
    async def test_migrated_database_is_ready(self, api: Api) -> None:
        response = await api.client.get("/ready")
        assert (response.status_code, response.json()) == (200, {"ready": True, "missing": []})

    async def test_endpoints_are_waited_for(self, database_url: str) -> None:
        async with api_server(control_settings(database_url, ready_endpoints_min=1)) as api:
            response = await api.client.get("/ready")
            assert response.status_code == 503
            assert response.json()["missing"] == ["endpoints: 0 live, 1 wanted"]
            async with ScriptedReplica() as replica:
                await api.serve(await api.seller(), replica)
                assert (await api.client.get("/ready")).status_code == 200

    async def test_database_behind_the_code_is_said(self, postgres: EmbeddedPostgres) -> None:
        name = f"behind_{new_id().hex}"
        async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
            await connection.execute(f"create database {name}".encode())
        url = postgres.url.rpartition("/")[0] + f"/{name}"
        async with api_server(control_settings(url)) as api:
            [missing] = (await api.client.get("/ready")).json()["missing"]
            assert missing.startswith("migrations: database is at none")
            assert "raymart db upgrade" in missing


class TestWarnings:
    async def test_a_runtime_that_could_rewrite_the_ledger_is_told_of(self, api: Api, owner_url: str) -> None:
        assert "warnings" not in (await api.client.get("/ready")).json()
        async with api_server(control_settings(owner_url)) as careless:
            response = await careless.client.get("/ready")
            assert response.status_code == 200
            [warning] = response.json()["warnings"]
            assert "member of raymart_runtime" in warning


class TestMetrics:
    async def test_live_endpoints_are_counted(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        exposed = (await api.client.get("/metrics")).text
        assert f'raymart_endpoints_live{{model="{seller.model_slug}"}} 1.0' in exposed
        assert f'raymart_capacity_generations{{model="{seller.model_slug}"}} 4.0' in exposed

    async def test_a_breaker_is_counted_while_it_is_open(
        self, api: Api, seller: Seller, replica: ScriptedReplica
    ) -> None:
        name = f'raymart_breakers_open{{model="{seller.model_slug}"}}'
        assert gauges(await api.client.get("/metrics"))[name] == 0
        [endpoint] = api.services.directory.live(seller.model_slug)
        # Each failure that began after the last one opens it for longer: a busy machine may take its time to look.
        for _ in range(6):
            api.services.directory.report_failure(endpoint.id, reason="test", began_at=time.monotonic())
        assert gauges(await api.client.get("/metrics"))[name] == 1

    async def test_a_drift_of_the_books_is_seen_until_a_check_is_sound(self, owner_url: str) -> None:
        for findings, finding in ((2, "account 7 differs"), (0, None)):
            async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
                await connection.execute(
                    "insert into ledger_check (kind, duration_ms, findings, finding) values ('reconcile', 1, %s, %s)",
                    (findings, finding),
                )
            async with api_server(control_settings(owner_url)) as fresh:
                found = gauges(await fresh.client.get("/metrics"))
            assert found['raymart_ledger_findings{check="reconcile"}'] == findings
            assert 0 <= found['raymart_ledger_check_age_seconds{check="reconcile"}'] < 60

    async def test_signs_are_absent_while_the_database_is_away(self) -> None:
        nowhere = control_settings("postgresql://nobody@127.0.0.1:1/none")
        async with api_server(nowhere) as api:
            exposed = await api.client.get("/metrics")
        assert exposed.status_code == 200
        assert not any(name.startswith(("raymart_ledger", "raymart_work")) for name in gauges(exposed))


def gauges(exposed: httpx.Response) -> dict[str, float]:
    """Each sample's name, with its labels, and value."""
    lines = [line for line in exposed.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


class TestOtherPaths:
    async def test_no_documentation_is_served_from_elsewhere(self, api: Api) -> None:
        for path in ("/redoc", "/graphql/"):
            assert (await api.client.get(path)).status_code in {404, 307}

    async def test_gateway_answers_on_the_same_port(self, api: Api) -> None:
        response = await api.client.post("/v1/chat/completions", json={})
        assert response.status_code == 401
        assert response.json()["error"]["type"] == "authentication_error"
