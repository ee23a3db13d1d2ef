"""The node's side of the handshake: enrol with a join token if there is no identity yet, then prove the key."""

import asyncio
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Protocol, TypeVar

from raymart_core.wire.link import (
    LINK_VERSION,
    Challenge,
    Control,
    Enrol,
    Enrolled,
    FrameType,
    Hardware,
    Hello,
    Proof,
    Refuse,
    Welcome,
    decode_control,
    encode,
    pack_frame,
    proof_transcript,
    unpack_frame,
)
from raymart_providers.errors import LinkRefused, NotEnrolled
from raymart_providers.identity import Enrolment, NodeKey, Role, keep_enrolment, load_enrolment
from raymart_providers.state_dir import StateDir

AGENT_VERSION = version("raymart-providers")
_STEP_TIMEOUT_S = 15.0

_Message = TypeVar("_Message", bound=Control)


class MessageSocket(Protocol):
    """A WebSocket, as far as the handshake needs it."""

    async def send(self, message: bytes) -> None:
        """Send one binary message."""

    async def recv(self) -> str | bytes:
        """The next message."""


class BadPeer(Exception):
    """The other end does not speak the link; it is no marketplace, or a broken one."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A granted link."""

    welcome: Welcome
    node_id: str
    clock_skew_ms: int
    """This machine's clock minus the marketplace's, half a round trip uncertain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who dials: the key, and what is needed to enrol it the first time."""

    state: StateDir
    key: NodeKey
    role: Role
    name: str
    server: str
    hardware: Hardware
    join_token: str | None
    _seen: dict[str, str] = field(default_factory=dict)
    """What the last handshake showed: the node's id and the name that the server signs with."""

    @property
    def node_id(self) -> str:
        """Known after the first proof."""
        return self._seen["node_id"]

    @property
    def seen_server(self) -> str:
        """The server's own name; known after the first proof."""
        return self._seen["server"]

    def try_next_key(self) -> bool:
        """After a refused proof: whether another key was about to take the place of this one, and now has.

        Both are kept, in each other's place: the answer to the last rotation was lost, so only a proof tells which of
        them the marketplace knows. True at most once in a process. Raises: UnsafeFile.
        """
        if "tried" in self._seen or not self.state.next_key.exists():
            return False
        self._seen["tried"] = "yes"
        scratch = self.state.next_key.with_suffix(".scratch")
        self.state.key.replace(scratch)
        self.state.next_key.replace(self.state.key)
        scratch.replace(self.state.next_key)
        self.key.become(NodeKey.load(self.state.key))
        return True

    async def prove(self, socket: MessageSocket) -> Proven:
        """Run the handshake; keeps a new identity in the state directory before it goes on.

        Raises: LinkRefused, NotEnrolled, BadPeer, TimeoutError, and whatever the socket raises.
        """
        enrolment = load_enrolment(self.state.enrolment) or await self._enrol(socket)
        await _say(
            socket,
            Hello(
                version=LINK_VERSION,
                node_id=enrolment.node_id,
                role=enrolment.role,
                agent_version=AGENT_VERSION,
                clock_ms=_clock_ms(),
                bundles=True,
            ),
        )
        challenge = await _hear(socket, Challenge)
        skew_ms = _clock_ms() - challenge.server_clock_ms
        transcript = proof_transcript(
            node_id=enrolment.node_id,
            nonce=challenge.nonce,
            server=challenge.server,
            server_clock_ms=challenge.server_clock_ms,
        )
        await _say(socket, Proof(signature=self.key.sign(transcript)))
        welcome = await _hear(socket, Welcome)
        self._seen.update(node_id=enrolment.node_id, server=challenge.server)
        return Proven(welcome, enrolment.node_id, skew_ms)

    async def _enrol(self, socket: MessageSocket) -> Enrolment:
        if self.join_token is None:
            raise NotEnrolled(
                f"{self.state.root} holds no node identity; "
                "create a join token in the marketplace and pass it by --token-file"
            )
        await _say(
            socket,
            Enrol(
                version=LINK_VERSION,
                join_token=self.join_token,
                name=self.name,
                public_key=self.key.public_bytes,
                hardware=self.hardware,
            ),
        )
        enrolled = await _hear(socket, Enrolled)
        enrolment = Enrolment(node_id=enrolled.node_id, name=self.name, role=self.role, server=self.server)
        keep_enrolment(self.state.enrolment, enrolment)
        return enrolment


async def _say(socket: MessageSocket, message: Control) -> None:
    async with asyncio.timeout(_STEP_TIMEOUT_S):
        await socket.send(pack_frame(FrameType.CONTROL, 0, encode(message)))


async def _hear(socket: MessageSocket, expected: type[_Message]) -> _Message:
    async with asyncio.timeout(_STEP_TIMEOUT_S):
        raw = await socket.recv()
    message = read_control(raw)
    if isinstance(message, Refuse):
        raise LinkRefused(message.reason, message.message, retry=message.retry)
    if not isinstance(message, expected):
        raise BadPeer(f"{type(message).__name__} where {expected.__name__} was expected")
    return message


def read_control(raw: str | bytes) -> Control:
    """The control message in a WebSocket message. Raises: BadPeer when it holds none."""
    if isinstance(raw, str):
        raise BadPeer("a text message; the link carries binary frames only")
    try:
        kind, _, payload = unpack_frame(raw)
        if kind is not FrameType.CONTROL:
            raise BadPeer(f"a {kind.name} frame before the link is live")
        message: Control = decode_control(payload)
    except (ValueError, RecursionError) as error:
        raise BadPeer(f"a message that cannot be read: {error}") from None
    return message


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
