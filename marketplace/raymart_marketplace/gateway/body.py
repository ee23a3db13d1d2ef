"""Reading a request's head and body with limits, straight from ASGI."""

from starlette.types import Receive, Scope

from raymart_core.errors import PayloadTooLarge, RaymartError


class ClientLeft(RaymartError):
    """The connection closed before the request was read."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


async def read_body(scope: Scope, receive: Receive, *, bytes_max: int) -> bytes:
    """The whole body. Raises: PayloadTooLarge as soon as that is certain, ClientLeft.

    The server goes on to read and drop what is left, until its receipt deadline: closing while the client still sends
    would reset the connection, and the client would never see the 413.
    """
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > bytes_max:
        raise _too_large(bytes_max)
    pieces: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeft
        piece: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size > bytes_max:
            raise _too_large(bytes_max)
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(bytes_max: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the body is larger than the limit of {bytes_max} bytes; send a shorter conversation"
    )
