"""The WebSocket under a link: the library's, with a short way out for what the link's one writer sends."""

from websockets.asyncio.client import ClientConnection
from websockets.protocol import State


class LinkConnection(ClientConnection):
    """A client connection on which one task writes whole binary messages."""

    async def write(self, message: bytes) -> None:
        """Send one binary message; waits while the socket's buffer is full. Raises: ConnectionClosed.

        `send` guards against concurrent and fragmented writes, of which a link has none, and costs as much as the rest of
        the way from a replica's chunk to the kernel.
        """
        if self.state is not State.OPEN:
            await self.send(message)  # It waits for the close and raises.
            return
        self.protocol.send_binary(message)
        for data in self.protocol.data_to_send():
            self.transport.write(data)
        if self.paused:
            await self.drain()
