"""A running OpenID provider for tests, and a browser's way through it."""

import base64
import contextlib
import hashlib
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from raymart_marketplace.settings import OidcProviderSettings

SCRIPT = Path(__file__).with_name("openid_provider_process.py")
SECRET = "the client's secret, of more than 32 bytes"


class OpenIdProvider:
    """Speaks to the provider's process beside the protocol: its people and its faults."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://localhost:{port}"

    def settings(self, **changes: Any) -> OidcProviderSettings:
        values = {
            "name": "acme",
            "issuer": self.issuer,
            "client_id": "our-client",
            "client_secret": SECRET,
        }
        return OidcProviderSettings(**(values | changes))

    async def person(self, sub: str, **claims: Any) -> None:
        async with httpx.AsyncClient(base_url=self.issuer, timeout=60, verify=False) as client:
            (await client.put(f"/users/{sub}", json=claims)).raise_for_status()

    @contextlib.asynccontextmanager
    async def fault(self, name: str):
        """Break its answers in one way, for this block."""
        async with httpx.AsyncClient(base_url=self.issuer, timeout=60, verify=False) as client:
            (await client.put("/fault", json={"name": name})).raise_for_status()
            try:
                yield
            finally:
                (await client.put("/fault", json={"name": ""})).raise_for_status()


@contextlib.contextmanager
def openid_provider() -> Iterator[OpenIdProvider]:
    """Run the provider until the block ends."""
    with subprocess.Popen(
        [sys.executable, SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield OpenIdProvider(int(process.stdout.readline()))
        finally:
            process.terminate()


@dataclass
class Browser:
    """A browser with a page of the console's."""

    base_url: str
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(
            base_url=self.base_url, cookies=self.cookies, timeout=30, verify=False
        ) as client:
            response = await client.get(path)
        for name in response.cookies:
            self.cookies[name] = response.cookies[name]
        return response

    async def start(self, provider: str = "acme") -> httpx.Response:
        return await self.get(f"/auth/oidc/{provider}/start?challenge={self.challenge}")

    async def at_provider(self, url: str, sub: str) -> str:
        """Log in there; where the provider sends the browser back to."""
        async with httpx.AsyncClient(timeout=30, verify=False) as client:
            answer = await client.post(url, data={"sub": sub})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    async def come_back(self, location: str) -> dict[str, str]:
        """What the page learns from the address that it is called with."""
        parts = urlsplit(location)
        response = await self.get(f"{parts.path}?{parts.query}")
        assert response.status_code == 303, response.text
        assert response.headers["cache-control"] == "no-store"
        assert not urlsplit(response.headers["location"]).fragment
        return dict(parse_qsl(urlsplit(response.headers["location"]).query))

    async def log_in(self, sub: str, provider: str = "acme") -> dict[str, str]:
        """All of it; {"login_code": ...} or {"login_error": ...}."""
        started = await self.start(provider)
        assert started.status_code == 303, started.text
        url = started.headers["location"]
        if "/oauth2/authorize" not in url:
            return dict(parse_qsl(urlsplit(url).query))
        return await self.come_back(await self.at_provider(url, sub))
