"""GraphiQL at `GET /graphql` for browsers, from files of this package alone: `graphql/graphiql` says how they are made."""

import asyncio
import gzip
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

ASSETS_PATH = "/graphql/assets"
ASSETS_DIR = Path(__file__).parent / "graphiql"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
# Nothing from elsewhere: the page holds a credential once somebody has tried it out. The editor writes styles itself, and
# its icons are a font within the style sheet.
_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline';"
    " font-src data:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Raymart: GraphQL</title>
<link rel="stylesheet" href="{ASSETS_PATH}/graphiql.css">
<style>html, body, #graphiql {{ height: 100%; margin: 0 }}</style>
</head>
<body>
<div id="graphiql"></div>
<script src="{ASSETS_PATH}/graphiql.js"></script>
</body>
</html>
"""


def wants_page(request: Request) -> bool:
    """Whether a browser's address bar asks: for HTML, and for no operation."""
    wants_html = "text/html" in request.headers.get("accept", "").lower()
    return request.method == "GET" and wants_html and not request.query_params


def page() -> HTMLResponse:
    """The page."""
    headers = {
        "content-security-policy": _POLICY,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return HTMLResponse(_PAGE, headers=headers)


def asset_routes() -> list[Route]:
    """What the page loads."""
    return [Route(f"{ASSETS_PATH}/{{name}}", _asset, methods=["GET"])]


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    # Only what is listed there: a name is never made into a path.
    found = {path.name.removesuffix(".gz"): path for path in ASSETS_DIR.glob("*.gz")}.get(name)
    if found is None:
        return Response(status_code=404)
    body = await asyncio.to_thread(found.read_bytes)
    headers = {
        "cache-control": "public, max-age=3600",
        "vary": "accept-encoding",
        "x-content-type-options": "nosniff",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
    else:
        body = await asyncio.to_thread(gzip.decompress, body)
    return Response(body, headers=headers, media_type=_MEDIA_TYPES[Path(name).suffix])
