"""`/openapi.json`, and `/docs`: its pages by Swagger UI, from files of a package that is installed here."""

from functools import cache
from pathlib import Path

import fastapi_offline
import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from raymart_graphql.rest.openapi import document

_ASSETS = Path(fastapi_offline.__file__).parent / "static"
_MEDIA_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
# Nothing from elsewhere: the page holds a credential once somebody has tried it out.
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Raymart: REST</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = "SwaggerUIBundle({url: '/openapi.json', dom_id: '#swagger-ui', deepLinking: true});\n"


def docs_routes(app: FastAPI) -> list[Route]:
    """The routes; the document is made when it is first asked for, from the routes that `app` has then."""

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(document(app))

    async def openapi(_request: Request) -> Response:
        return Response(encoded(), media_type="application/json")

    return [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", _page, methods=["GET"]),
        Route("/docs/{asset}", _asset, methods=["GET"]),
    ]


async def _page(_request: Request) -> Response:
    return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})


async def _asset(request: Request) -> Response:
    asset = request.path_params["asset"]
    if asset == "start.js":
        return Response(_START, media_type="text/javascript")
    if asset not in _MEDIA_TYPES:
        return HTMLResponse("not found", status_code=404)
    return FileResponse(_ASSETS / asset, media_type=_MEDIA_TYPES[asset])
