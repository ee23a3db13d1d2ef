"""Opening a connection to a replica: TCP, TLS where its machine announced a certificate, and who is to blame if it fails.

A replica makes its own certificate, and its machine announces the fingerprint over its proven link, beside the secret.
That is worth more than a chain of signatures: a member of the same pool, or whoever has fooled an authority, can show
a certificate for the right address, but not this one. Names, dates and signers therefore decide nothing here.
"""

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from raymart_core.units import Fault
from raymart_marketplace.supply.upstream import UpstreamBroken

_HEX_DIGITS = frozenset("0123456789abcdef")

Connection = TypeVar("Connection", bound=asyncio.Protocol)


class PinnedCertificate:
    """The only certificate that a replica may show."""

    def __init__(self, sha256: str) -> None:
        """`sha256` is of the certificate's DER, 64 lower-case hex digits. Raises: ValueError when it is not."""
        if len(sha256) != 64 or not _HEX_DIGITS.issuperset(sha256):
            raise ValueError(f"{sha256[:80]!r} is no SHA-256 in hexadecimal digits")
        self._sha256 = bytes.fromhex(sha256)

    def is_shown_by(self, transport: asyncio.BaseTransport) -> bool:
        """Whether the peer has shown it. To be asked when the handshake is over and before anything is written."""
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return hashlib.sha256(shown or b"").digest() == self._sha256


async def open_connection(
    make: Callable[[], Connection],
    host: str,
    port: int,
    *,
    pinned: PinnedCertificate | None,
    timeout_s: float,
) -> Connection:
    """Connect within `timeout_s`, the TLS handshake included; plain where nothing is pinned.

    Raises: UpstreamBroken, also for a certificate that is not the pinned one; nothing has been sent then.
    """
    context = None if pinned is None else _tls_context()
    try:
        async with asyncio.timeout(timeout_s):
            transport, connection = await asyncio.get_running_loop().create_connection(
                make, host, port, ssl=context
            )
    except TimeoutError:
        raise UpstreamBroken(f"no connection within {timeout_s:g} s", fault=Fault.NETWORK) from None
    except OSError as error:
        raise UpstreamBroken(f"cannot connect: {error.strerror or error}", fault=whose(error)) from None
    if pinned is not None and not pinned.is_shown_by(transport):
        transport.abort()
        raise UpstreamBroken(
            "the replica shows another certificate than its machine announced", fault=Fault.PROVIDER
        )
    return connection


def whose(error: BaseException | None) -> Fault:
    """A peer that closed, reset, refused or speaks no TLS is the provider's doing; anything else is the network's."""
    its_own = error is None or isinstance(error, ConnectionError | ssl.SSLError)
    return Fault.PROVIDER if its_own else Fault.NETWORK


@cache
def _tls_context() -> ssl.SSLContext:
    # One for all replicas, for it judges no certificate: `PinnedCertificate` does. That the peer has the key of what it
    # shows is proven by every handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
