"""A node written by hand, frame by frame, so that it can break every rule of the link."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import ClientConnection, connect

from raymart_core.wire.link import (
    LINK_VERSION,
    Announce,
    Challenge,
    Control,
    Enrol,
    Enrolled,
    FrameType,
    Hardware,
    Hello,
    Proof,
    Refuse,
    Replica,
    Welcome,
    decode_control,
    encode,
    pack_frame,
    proof_transcript,
    unpack_frame,
)
from support.link_market import LinkMarket, Supply

HARDWARE = Hardware(hostname="raw", cpu_model="raw", cpu_count=8, memory_bytes=2**33)

M = TypeVar("M", bound=Control)


class RawNode:
    """One WebSocket and one key."""

    def __init__(self, socket: ClientConnection, key: Ed25519PrivateKey) -> None:
        self.socket = socket
        self.key = key
        self.node_id = ""

    async def say(self, message: Control) -> None:
        await self.socket.send(pack_frame(FrameType.CONTROL, 0, encode(message)))

    async def frame(self, kind: FrameType, stream_id: int, payload: bytes = b"") -> None:
        await self.socket.send(pack_frame(kind, stream_id, payload))

    async def hear_frame(self) -> tuple[FrameType, int, bytes]:
        async with asyncio.timeout(30):
            message = await self.socket.recv()
        assert isinstance(message, bytes)
        return unpack_frame(message)

    async def hear(self, expected: type[M]) -> M:
        """The next message, which must be of this kind."""
        kind, _, payload = await self.hear_frame()
        assert kind is FrameType.CONTROL, kind
        message = decode_control(payload)
        assert isinstance(message, expected), message
        return message

    async def hear_until(self, expected: type[M]) -> M:
        """The next control message of this kind; others are let pass."""
        while True:
            kind, _, payload = await self.hear_frame()
            if kind is FrameType.CONTROL and isinstance(message := decode_control(payload), expected):
                return message

    async def hear_kind(self, expected: FrameType) -> tuple[int, bytes]:
        """Stream id and payload of the next frame of this type; others are let pass."""
        while True:
            kind, stream_id, payload = await self.hear_frame()
            if kind is expected:
                return stream_id, payload

    async def closed(self) -> tuple[int, str]:
        """The close code and reason."""
        async with asyncio.timeout(30):
            await self.socket.wait_closed()
        return self.socket.close_code or 0, self.socket.close_reason or ""

    async def enrol(self, token: str, *, name: str, **changes: Any) -> None:
        values = {
            "version": LINK_VERSION,
            "join_token": token,
            "name": name,
            "public_key": self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
            "hardware": HARDWARE,
        }
        await self.say(Enrol(**{**values, **changes}))
        self.node_id = (await self.hear(Enrolled)).node_id

    async def hello(self, **changes: Any) -> None:
        values = {
            "version": LINK_VERSION,
            "node_id": self.node_id,
            "role": "node",
            "agent_version": "raw",
            "clock_ms": 1,
        }
        await self.say(Hello(**{**values, **changes}))

    def proof(self, challenge: Challenge) -> Proof:
        return Proof(
            signature=self.key.sign(
                proof_transcript(
                    node_id=self.node_id,
                    nonce=challenge.nonce,
                    server=challenge.server,
                    server_clock_ms=challenge.server_clock_ms,
                )
            )
        )

    async def prove(self, **changes: Any) -> Welcome:
        """Hello to Welcome."""
        await self.hello(**changes)
        await self.say(self.proof(await self.hear(Challenge)))
        return await self.hear(Welcome)

    async def announce(self, supply: Supply, **changes: Any) -> None:
        """One ready replica of the supply's revision."""
        values = {
            "replica_id": "raw-1",
            "revision": supply.digest,
            "model": supply.model_slug,
            "engine": "llama_cpp",
            "capacity": 2,
            "context_length": 1024,
            "state": "ready",
        }
        await self.say(Announce(hardware=HARDWARE, replicas=(Replica(**{**values, **changes}),)))

    async def refusal(self) -> Refuse:
        """The refusal that must come next, and the close after it."""
        refusal = await self.hear_until(Refuse)
        await self.closed()
        return refusal


@contextlib.asynccontextmanager
async def raw_node(market: LinkMarket, key: Ed25519PrivateKey | None = None) -> AsyncIterator[RawNode]:
    """A connected node that has said nothing yet."""
    async with connect(market.link_url, compression=None, max_size=None, proxy=None) as socket:
        yield RawNode(socket, key or Ed25519PrivateKey.generate())


@contextlib.asynccontextmanager
async def again(market: LinkMarket, node: RawNode) -> AsyncIterator[RawNode]:
    """The same node on another connection."""
    async with raw_node(market, node.key) as other:
        other.node_id = node.node_id
        yield other


@contextlib.asynccontextmanager
async def live_node(market: LinkMarket, supply: Supply, *, name: str = "raw") -> AsyncIterator[RawNode]:
    """An enrolled node with a live link."""
    async with raw_node(market) as node:
        await node.enrol(await supply.join_token(), name=name)
        await node.prove()
        yield node
