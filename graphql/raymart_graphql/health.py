"""Liveness, readiness and metrics, for supervisors and Prometheus."""

import asyncio
from typing import Any

import msgspec
import sqlalchemy.exc
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from raymart_graphql.metrics import CONTENT_TYPE
from raymart_graphql.outage import DATABASE_AWAY
from raymart_graphql.services import Services
from raymart_marketplace.db.scripts import heads

DATABASE_TIMEOUT_S = 2.0
_MAY_REWRITE = text(
    "select r.rolsuper or pg_has_role(r.oid, c.relowner, 'member') from pg_roles r, pg_class c"
    " where r.rolname = current_user and c.oid = to_regclass('public.transfer')"
)


def health_routes(services: Services) -> list[Route]:
    """`/health`, `/ready` and `/metrics`; none asks for credentials, and none tells of customers."""
    readiness = Readiness(services)

    async def health(_request: Request) -> Response:
        return _json({"status": "ok"}, 200)

    async def ready(_request: Request) -> Response:
        missing = await readiness.missing()
        body: dict[str, Any] = {"ready": not missing, "missing": missing}
        # Nothing to wait for, so no reason to be unready: but an operator must see it.
        if not missing and (warnings := await readiness.warnings()):
            body["warnings"] = warnings
        return _json(body, 503 if missing else 200)

    async def metrics(_request: Request) -> Response:
        return Response(await services.metrics.exposition(), media_type=CONTENT_TYPE)

    return [
        Route("/health", health, methods=["GET", "HEAD"]),
        Route("/ready", ready, methods=["GET", "HEAD"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


class Readiness:
    """Whether this process can serve."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._heads = set(heads(scripts=services.settings.migrations_dir))

    async def missing(self) -> list[str]:
        """What keeps the process from serving, in words; empty when it is ready."""
        missing = await self._database_missing()
        live, wanted = len(self._services.directory.all_live()), self._services.settings.ready_endpoints_min
        if live < wanted:
            missing.append(f"endpoints: {live} live, {wanted} wanted")
        return missing

    async def warnings(self) -> list[str]:
        """What is unsafe and does not keep the process from serving."""
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_S), self._services.sessions() as session:
                may_rewrite = await session.scalar(_MAY_REWRITE)
        except DATABASE_AWAY:
            return []  # `missing` says what is away.
        if may_rewrite:
            return [
                (
                    "database: this process logs in as a superuser or as the owner of the ledger, who could rewrite it;"
                    " use a member of raymart_runtime (alembic/README.md)"
                )
            ]
        return []

    async def _database_missing(self) -> list[str]:
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_S), self._services.sessions() as session:
                at = set((await session.scalars(text("select version_num from alembic_version"))).all())
        except sqlalchemy.exc.ProgrammingError:
            at = set()
        except DATABASE_AWAY:
            return ["database: does not answer"]
        if at != self._heads:
            shown = ", ".join(sorted(at)) or "none"
            wanted = ", ".join(sorted(self._heads))
            return [f"migrations: database is at {shown}, code wants {wanted}; run `raymart db upgrade`"]
        return []


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
