"""What runs because a test or a request asked for it, apart from what a process does by itself meanwhile."""

from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

ASKED_FOR = ContextVar("asked_for", default=False)
"""True in requests, in bodies of `counted`, and in tasks that they start; background tasks are older and do not see it."""


class MarksRequests:
    """An ASGI app whose requests, each in a task of its own, are asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the app does; the lifespan, which starts the background, stays unmarked."""
        ASKED_FOR.set(scope["type"] != "lifespan")
        await self._app(scope, receive, send)
