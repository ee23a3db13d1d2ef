"""Faults of ours are masked and logged; mistakes of the client are told."""

import asyncio
from pathlib import Path

import pytest
from graphql import GraphQLError
from structlog.testing import capture_logs

from raymart_core.errors import Conflict, DomainError, Forbidden, NotAuthenticated, Overloaded, Unavailable
from raymart_graphql.errors import ErrorCode, shown
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import Node
from support.api_server import Api, Person, Seller, api_server, control_settings

NODES = "query ($id: ID!) { provider(id: $id) { slug nodes(first: 1) { nodes { name } } } }"


class TestMasking:
    async def test_fault_of_ours_shows_no_more_than_a_request_id(self, api: Api, seller: Seller) -> None:
        """A row that the code does not expect: its text must reach the log, not the client."""
        async with session_scope(api.services.sessions) as session:
            node = await session.get_one(Node, seller.node_id)
            node.hardware = {"cpu_count": "canary-7f3a"}
        with capture_logs() as logs:
            answer = await api(NODES, seller.tenant.owner, id=seller.id)
        assert answer.code == "INTERNAL_SERVER_ERROR"
        assert "canary" not in answer.response.text
        [error] = answer.errors
        assert error["path"] == ["provider", "nodes"]
        request_id = answer.response.headers["x-request-id"]
        assert request_id in error["message"]
        [logged] = [entry for entry in logs if entry["event"] == "operation.failed"]
        assert logged["request_id"] == request_id
        assert "canary" in str(logged["exc_info"])

    async def test_mistakes_of_the_client_are_not_logged_as_faults(self, api: Api) -> None:
        with capture_logs() as logs:
            for query in ("{", "{ nothing }", "{ viewer { user { id } } }", '{ node(id: "x") { id } }'):
                assert (await api(query)).errors
        assert [entry for entry in logs if entry["log_level"] in {"error", "critical"}] == []

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (NotAuthenticated("who?"), ErrorCode.UNAUTHENTICATED),
            (Forbidden("no"), ErrorCode.FORBIDDEN),
            (Conflict("late"), ErrorCode.CONFLICT),
            (Overloaded("wait", retry_after_s=1), ErrorCode.RATE_LIMITED),
            (Unavailable("away"), ErrorCode.SERVICE_UNAVAILABLE),
            (DomainError("odd"), ErrorCode.INTERNAL_SERVER_ERROR),
        ],
    )
    def test_expected_failures_keep_their_sentence(self, error: DomainError, code: ErrorCode) -> None:
        found = shown(
            GraphQLError(error.message, original_error=error), request_id="req_1", before_execution=False
        )
        assert found.message == error.message
        assert found.extensions == {"code": code.value, "requestId": "req_1"}

    def test_message_is_cut(self) -> None:
        found = shown(GraphQLError("x" * 10_000), request_id="req_1", before_execution=True)
        assert len(found.message) == 500


class TestDatabaseAway:
    async def test_it_is_said_and_passes(self, tmp_path: Path) -> None:
        server = EmbeddedPostgres(tmp_path / "pg")
        await asyncio.to_thread(server.start)
        try:
            await asyncio.to_thread(upgrade, server.url)
            async with api_server(control_settings(server.url)) as api:
                assert (await api.client.get("/ready")).status_code == 200
                person = (await api.tenant()).owner
                await self.restart_meanwhile(api, person, server)
        finally:
            await asyncio.to_thread(server.stop)

    async def restart_meanwhile(self, api: Api, person: Person, server: EmbeddedPostgres) -> None:
        query = "{ viewer { organizations { nodes { id } } } }"
        assert (await api(query, person)).data
        await asyncio.to_thread(server.stop, "immediate")
        ready = await api.client.get("/ready")
        assert ready.status_code == 503
        assert ready.json() == {"ready": False, "missing": ["database: does not answer"]}
        assert (await api.client.get("/health")).status_code == 200
        assert (await api(query, person)).code == "SERVICE_UNAVAILABLE"
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(30):
            while (await api.client.get("/ready")).status_code != 200:
                await asyncio.sleep(0.1)
        assert (await api(query, person)).data


class TestStartWithoutDatabase:
    async def test_process_starts_and_says_what_is_missing(self) -> None:
        away = "postgresql://raymart:x@127.0.0.1:9/raymart"
        async with api_server(control_settings(away)) as api:
            assert (await api.client.get("/health")).status_code == 200
            assert (await api.client.get("/ready")).json()["missing"] == ["database: does not answer"]
            assert (await api("{ models { nodes { slug } } }")).code == "SERVICE_UNAVAILABLE"
