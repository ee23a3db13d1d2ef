"""An organization's audit log as a file: `GET /audit/{organization}.csv` and `.jsonl`.

For its members who may read the log and for the platform's auditors, with an access token in the `Authorization` header;
`from` and `to` in the query narrow it. Streamed: however long the log is, a thousand entries are in memory.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from raymart_core.errors import Forbidden, InvalidRequest, NotAuthenticated, NotFound
from raymart_core.ids import Prefix, parse
from raymart_graphql.principal import Principal, identify
from raymart_graphql.reading import Reading
from raymart_graphql.services import Services
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.audit.export import MEDIA_TYPE, ExportFormat, export_lines
from raymart_marketplace.audit.search import AuditFilter

CHUNK_CHARACTERS = 64_000
"""Lines are gathered to about this much before they are sent."""


def audit_routes(services: Services) -> list[Route]:
    """The routes; no cache may keep what they answer."""
    return [
        Route(f"/audit/{{organization}}.{format_.value}", _endpoint(services, format_), methods=["GET"])
        for format_ in ExportFormat
    ]


def _endpoint(services: Services, format_: ExportFormat) -> Callable[[Request], Awaitable[Response]]:
    return partial(_download, services, format_)


async def _download(services: Services, format_: ExportFormat, request: Request) -> Response:
    """The file. Raises: NotAuthenticated, Forbidden, NotFound for another tenant's as for none, InvalidRequest."""
    principal = await person_of(services, request)
    named = request.path_params["organization"]
    missing = NotFound(f"there is no such log for you: {named[:60]!r}")
    try:
        organization_id = parse(Prefix.ORGANIZATION, named)
    except ValueError:
        raise missing from None
    if not principal.may(Permission.AUDIT_READ, organization_id):
        raise missing
    wanted = AuditFilter(
        organization_id=organization_id, since=_moment(request, "from"), until=_moment(request, "to")
    )
    lines = export_lines(
        services.sessions,
        wanted,
        format_=format_,
        shows_staff=principal.may_in_market(Permission.PLATFORM_AUDIT_READ),
    )
    return StreamingResponse(
        _gathered(lines),
        media_type=MEDIA_TYPE[format_],
        headers={
            "content-disposition": f'attachment; filename="audit-{named}.{format_.value}"',
            "cache-control": "private, no-store",
            "x-content-type-options": "nosniff",
        },
    )


async def person_of(services: Services, request: Request) -> Principal:
    """Who asks for a file. Raises: NotAuthenticated, Forbidden for an API key."""
    authorization = request.headers.get("authorization")
    if authorization is None:
        raise NotAuthenticated("send `Authorization: Bearer <access token>`; the `login` mutation gives one")
    reading = Reading(services.sessions)
    try:
        principal = await identify(authorization.encode("latin-1"), services.authenticator, reading)
    finally:
        await reading.aclose()
    if principal.user_id is None:
        raise Forbidden("an API key is for inference only; log in and send an access token")
    return principal


def _moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        # In a query a plus sign is a blank, and people do not escape the one of a zone.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequest(
            f"{text[:60]!r} is not an ISO 8601 time with its zone, such as '2026-11-20T10:00:00Z'", param=name
        )
    return moment


async def _gathered(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """`lines` in pieces: a message of its own for each would cost more than making it."""
    waiting: list[str] = []
    length = 0
    async for line in lines:
        waiting.append(line)
        length += len(line)
        if length >= CHUNK_CHARACTERS:
            yield "".join(waiting).encode()
            waiting, length = [], 0
    yield "".join(waiting).encode()
