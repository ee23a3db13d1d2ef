"""Members of a house pool for tests: granted by a real authority, without a marketplace; and heads of every kind."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from raymart_core.wire.membership import PoolGrant
from raymart_marketplace.supply.membership.authority import Authority, requested_key
from raymart_providers.pool_membership.kept import Membership, MembershipFiles

SETTINGS_FRAME = b"\0\0\0\x04\0\0\0\0\0"


def authority() -> Authority:
    return Authority.create("test", now=datetime.now(UTC))


def grant_of(
    by: Authority, csr: bytes, *, address: str = "127.0.0.1", valid_s: float = 3_600.0, **changes: Any
) -> PoolGrant:
    signed = by.sign(
        requested_key(csr), name="m", address=ip_address(address), now=datetime.now(UTC), valid_s=valid_s
    )
    values: dict[str, Any] = {
        "certificate": signed.pem,
        "authority": by.certificate_pem,
        "token": "t" * 64,
        "head": "127.0.0.1:6379",
        "labels": {"raymart.io/node": "m"},
        "expires_in_s": valid_s,
    }
    return PoolGrant(**{**values, **changes})


def member(folder: Path, by: Authority, **changes: Any) -> Membership:
    """A machine with a membership in `folder`."""
    files = MembershipFiles(folder)
    return files.keep(grant_of(by, files.request("m"), **changes))


def head_context(membership: Membership) -> ssl.SSLContext:
    """TLS as the head's gRPC does it: it wants its clients' certificates, of its own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        membership.environment["RAY_TLS_SERVER_CERT"], membership.environment["RAY_TLS_SERVER_KEY"]
    )
    context.load_verify_locations(membership.environment["RAY_TLS_CA_CERT"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    return context


@contextlib.asynccontextmanager
async def listening(
    *, says: bytes | None, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """A server that says `says` to whoever connects (None: nothing, and it stays); its host:port."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if says is None:
                await done.wait()
            else:
                writer.write(says)
                await writer.drain()
                await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, host, 0, ssl=context)
    try:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        done.set()
        server.close()
        await server.wait_closed()
