"""Whether the pool's Ray head would have us, told within seconds and by name.

Ray itself says nothing when certificates do not fit: it prints "Timed out while waiting for GCS to become available" and
tries for ever (facts: infrastructure, section 2b). So the same handshake is made here first: TLS with both certificates,
then the first frame of HTTP/2, because with TLS 1.3 a server refuses a client's certificate only after the handshake.

Source: RFC 8446, section 4.4.2.4; RFC 9113, section 3.4 (the connection preface).
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Literal

from raymart_providers.errors import ProviderError

TIMEOUT_S = 10.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""The client's preface and an empty SETTINGS frame."""
_FRAME_HEAD_BYTES = 9
_SETTINGS = 4

HeadReason = Literal["address", "unreachable", "silent", "plaintext", "not_the_pools", "refused_us"]


class HeadProblem(ProviderError):
    """Ray's head cannot be joined; `reason` is a stable code."""

    def __init__(self, reason: HeadReason, message: str) -> None:
        super().__init__(f"the pool's Ray head cannot be joined ({reason}): {message}")
        self.reason = reason


async def check_head(head: str, environment: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> None:
    """Return when the head at `head` (host:port) speaks TLS of our pool with us, as `Membership.environment` says.

    Raises: HeadProblem.
    """
    host, _, port = head.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal():
        raise HeadProblem("address", f"{head!r} is no host:port; ask the marketplace for the pool's head")
    context = _context(environment)
    try:
        async with asyncio.timeout(timeout_s):
            await _greet(host, int(port), context)
    except TimeoutError:
        raise HeadProblem(
            "silent",
            f"{head} did not answer within {timeout_s:g} s; a firewall between may drop what is not its own",
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise HeadProblem(
            "not_the_pools",
            f"the certificate of {head} is not one of this pool's authority for this address "
            f"({error.verify_message}); look which head runs there",
        ) from None
    except ssl.SSLError as error:
        raise _refusal(head, error) from None
    except (OSError, EOFError) as error:
        raise HeadProblem(
            "unreachable",
            f"no connection to {head} ({str(error) or type(error).__name__}); "
            "check that the head runs and that this machine is in the pool's network",
        ) from None


async def _greet(host: str, port: int, context: ssl.SSLContext) -> None:
    """Raises: ssl.SSLError, OSError, EOFError, HeadProblem."""
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        writer.write(_PREFACE)
        await writer.drain()
        try:
            frame = await reader.readexactly(_FRAME_HEAD_BYTES)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            raise HeadProblem(
                "refused_us",
                f"{host}:{port} closed the connection after the handshake: it does not believe this machine's "
                "certificate; check that both are in one pool and that the clocks are right",
            ) from None
        if frame[3] != _SETTINGS:
            raise HeadProblem("plaintext", f"what listens at {host}:{port} is no gRPC server")
    finally:
        # Without a farewell: the other end may never answer one.
        writer.transport.abort()


def _context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """TLS as Ray's processes do it. Raises: HeadProblem when the member's own files are no good."""
    try:
        context = ssl.create_default_context(cafile=environment["RAY_TLS_CA_CERT"])
        context.load_cert_chain(environment["RAY_TLS_SERVER_CERT"], environment["RAY_TLS_SERVER_KEY"])
    except (OSError, ssl.SSLError) as error:
        raise HeadProblem(
            "refused_us", f"this machine's own certificate cannot be used ({error}); join again"
        ) from None
    context.set_alpn_protocols(["h2"])
    return context


def _refusal(head: str, error: ssl.SSLError) -> HeadProblem:
    """What an error of TLS other than an unbelievable certificate of the head means."""
    if "ALERT" in (error.reason or ""):
        return HeadProblem(
            "refused_us",
            f"{head} refuses this machine's certificate ({error.reason}); "
            "check that both are in one pool and that the clocks are right",
        )
    return HeadProblem(
        "plaintext",
        f"{head} does not speak TLS ({error.reason}); the head must be started by the pool's controller",
    )
