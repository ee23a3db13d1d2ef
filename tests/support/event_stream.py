"""A client of server-sent events, as graphql-sse's distinct connections mode has them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from support.api_server import Api, Person


class Events:
    """An open stream. Comments are counted, not returned."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any] | None]:
        """The next event: its name, and its data unless that is empty. Raises: StopAsyncIteration at the end."""
        name, data = "", ""
        async with asyncio.timeout(20):
            while True:
                line = await anext(self._lines)
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    data = line.removeprefix("data: ")
                elif name:
                    return name, json.loads(data) if data else None

    async def results(self) -> list[dict[str, Any]]:
        """Every result up to `complete`."""
        found = []
        while (event := await self.next())[0] == "next":
            assert event[1] is not None
            found.append(event[1])
        assert event == ("complete", None)
        return found


@asynccontextmanager
async def followed(
    api: Api, query: str, as_: Person | None = None, *, accept: str = "text/event-stream", **variables: Any
) -> AsyncIterator[Events]:
    """POST an operation and read its results as they come."""
    headers = {"accept": accept} | ({"authorization": f"Bearer {as_.token}"} if as_ else {})
    body = {"query": query, "variables": variables}
    async with api.client.stream("POST", "/graphql", json=body, headers=headers) as response:
        yield Events(response)
