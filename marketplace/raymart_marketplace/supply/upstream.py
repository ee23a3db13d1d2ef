"""How the gateway talks to a replica: one interface, two ways (direct HTTP, or the node agent's link)."""

from collections.abc import AsyncIterator
from typing import Protocol

from raymart_core.errors import RaymartError
from raymart_core.units import Fault


class UpstreamBroken(RaymartError):
    """The connection to a replica failed or ended early. `fault` says whose failure it was."""

    def __init__(self, reason: str, *, fault: Fault) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fault = fault


class UpstreamResponse(Protocol):
    """A replica's answer whose body is still arriving."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def has_ended(self) -> bool:
        """Whether the whole body is here and was read."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, in pieces of any size; back-pressure reaches the replica.

        Raises: UpstreamBroken when the connection breaks before the body's end.
        """

    async def aclose(self) -> None:
        """Stop at once: the replica sees the connection close and aborts the work. Safe to call twice."""


class Upstream(Protocol):
    """A way to one replica."""

    async def post(self, path: str, body: bytes, *, request_id: str, deadline_ms: int) -> UpstreamResponse:
        """Send a JSON body and return when the response's head has arrived.

        Raises: UpstreamBroken when no head arrives, TimeoutError never (the caller bounds the wait).
        """
