"""HTTP to OpenID providers: bounded in time and size, no redirects, one answer for whatever goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from raymart_core.errors import Unavailable

TIMEOUT_S = 5.0
"""Of one exchange, all of it."""
BODY_BYTES_MAX = 256 * 1024


class ProviderAway(Unavailable):
    """The OpenID provider does not answer, or not as one does."""

    code = "login_provider_away"

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"the login provider {provider!r} does not answer as it should; try again, or log in otherwise"
        )
        self.provider = provider


class _Capped(httpx.AsyncBaseTransport):
    """Reads at most `BODY_BYTES_MAX` of any answer."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport(retries=0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange. Raises: httpx.TransportError, also for a body that is too large."""
        # What is compressed could be large once it is not.
        request.headers["accept-encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        body = b""
        try:
            async for chunk in _chunks(response):
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise httpx.ReadError(f"an answer of more than {BODY_BYTES_MAX} bytes", request=request)
        finally:
            await response.aclose()
        headers = [
            (name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"
        ]
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._inner.aclose()


def capped_transport() -> httpx.AsyncBaseTransport:
    """A transport for a client that talks to a provider."""
    return _Capped()


@asynccontextmanager
async def asking(provider: str) -> AsyncIterator[None]:
    """Bounds an exchange with `provider`. Raises: ProviderAway for whatever the network or the answer has wrong."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        raise ProviderAway(provider) from error


async def fetch_object(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """The JSON object at `url`. Raises: httpx.HTTPError, ValueError."""
    response = await client.get(url, follow_redirects=False)
    if response.status_code != 200:
        raise ValueError(f"status {response.status_code}")
    return object_of(response.content)


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises: ValueError."""
    found = msgspec.json.decode(body)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - one kind of error for all that is wrong with an answer
    return found


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for chunk in response.stream:
        yield chunk
