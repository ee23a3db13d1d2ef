"""Exports as files: `GET /privacy/exports/{export}.zip`.

For those who may have one made, with an access token in the `Authorization` header. Another organization's is answered as
one that does not exist, and so is one whose time is over.
"""

import asyncio
from functools import partial
from uuid import UUID

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from raymart_billing.privacy.models import ExportState, PrivacyExport
from raymart_billing.privacy.requests import export_path, find_export
from raymart_core.clock import now
from raymart_core.errors import NotFound, Unavailable
from raymart_graphql.audit_files import person_of
from raymart_graphql.services import Services
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.db.session import session_scope


def export_routes(services: Services) -> list[Route]:
    """The route; no cache may keep what it answers."""
    return [Route("/privacy/exports/{export}.zip", partial(_download, services), methods=["GET"])]


async def _download(services: Services, request: Request) -> Response:
    """The file, streamed. Raises: NotAuthenticated, Forbidden, NotFound for another tenant's as for none, Unavailable."""
    principal = await person_of(services, request)
    named = request.path_params["export"]
    row = await _find(services, named)
    if row is None or not principal.may(Permission.EXPORTS_READ, row.organization_id):
        raise NotFound(f"there is no such export for you: {named[:60]!r}; `organization.exports` lists yours")
    folder = services.settings.exports_dir
    path = None if folder is None else export_path(folder, row.id)
    if path is None or not await asyncio.to_thread(path.is_file):
        raise Unavailable(
            "the file is not on this machine; the API and the workers must share RAYMART_DATA_DIR"
        )
    return FileResponse(
        path,
        media_type="application/zip",
        filename=f"export-{row.created_at:%Y-%m-%d}.zip",
        headers={"cache-control": "private, no-store", "x-content-type-options": "nosniff"},
    )


async def _find(services: Services, named: str) -> PrivacyExport | None:
    """The export of this name that can still be downloaded."""
    try:
        export_id = UUID(hex=named)
    except ValueError:
        return None
    async with session_scope(services.sessions) as session:
        row = await find_export(session, export_id)
    if row is None or row.state is not ExportState.READY or row.expires_at is None or row.expires_at <= now():
        return None
    return row
