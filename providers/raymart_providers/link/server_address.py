"""Where the marketplace's link is, from what a person types."""

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from raymart_core.wire.link import LINK_PATH
from raymart_providers.errors import BadServer

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def link_url(server: str, *, allow_plaintext: bool = False) -> str:
    """The WebSocket URL of `server`: "https://market.example" gives "wss://market.example/link".

    A plain connection is taken only to this machine itself, unless `allow_plaintext`: the join token and the
    prompts of customers would travel in clear. Raises: BadServer.
    """
    parts = urlsplit(server)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise BadServer(
            f"--server {server!r} is no http(s):// or ws(s):// URL, such as https://market.example"
        )
    scheme = _SCHEMES[parts.scheme]
    if scheme == "ws" and not allow_plaintext and not is_loopback(parts.hostname):
        raise BadServer(
            f"--server {server!r} is not encrypted and not this machine; use https://, "
            "or --allow-plaintext on a network that you trust"
        )
    path = parts.path.rstrip("/")
    if not path.endswith(LINK_PATH):
        path += LINK_PATH
    return urlunsplit((scheme, parts.netloc, path, "", ""))


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
