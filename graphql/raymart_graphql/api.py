"""The ASGI application: FastAPI, with the paths of inference before it."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from raymart_marketplace.gateway.endpoint import Endpoint


class Api(FastAPI):
    """FastAPI that hands requests for inference over before it does anything.

    Four layers of middleware and a look at one route after the other cost a request, and each chunk of a stream that
    passes through them, more than all that is needed of them: an `Endpoint` answers for its own errors.
    """

    def __init__(self, *, routes: list[BaseRoute], **settings: Any) -> None:  # noqa: ANN401 - FastAPI's own
        super().__init__(routes=routes, **settings)
        self._direct = direct_paths(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and not scope.get("root_path"):
            endpoint = self._direct.get(scope["path"])
            if endpoint is not None:
                # As Starlette's router leaves it: an endpoint may have other paths too.
                scope["path_params"] = {}
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def direct_paths(routes: list[BaseRoute]) -> Mapping[str, ASGIApp]:
    """The endpoints of inference by path, of those that have no parameters in it; the first of a path counts."""
    paths: dict[str, ASGIApp] = {}
    for route in routes:
        if isinstance(route, Route) and isinstance(route.endpoint, Endpoint) and not route.param_convertors:
            paths.setdefault(route.path, route.app)  # With what `open_to_pages` may have put before it.
    return paths
