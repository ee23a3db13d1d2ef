"""The server's side of the handshake: enrol if asked, then a signed challenge. Ends in a proven identity."""

import asyncio
import secrets
from dataclasses import dataclass

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from raymart_core.clock import Clock
from raymart_core.ids import Prefix, parse, show
from raymart_core.wire.link import (
    LINK_VERSION,
    Challenge,
    Enrol,
    Enrolled,
    Hello,
    Proof,
    proof_transcript,
)
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.enrolment import LinkRefused, NodeIdentity, enrol, enrolling
from raymart_marketplace.supply.link.roll import RollCall
from raymart_marketplace.supply.link.socket import LinkSocket, protocol_error
from raymart_marketplace.supply.models import NodeRole

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Proven:
    """A node that proved its key, and what its end of the link can do."""

    identity: NodeIdentity
    bundles: bool
    """Whether it takes several frames in one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """How this marketplace proves its nodes."""

    sessions: Sessions
    roll: RollCall
    server_name: str
    """Signed into each proof: one recorded elsewhere is worthless here."""
    step_timeout_s: float
    clock: Clock

    async def run(self, socket: LinkSocket) -> Proven:
        """Enrol when asked, then challenge and check the proof.

        No transaction is open while the peer is waited for. Raises: LinkRefused (tell the peer), LinkEnded,
        LinkClosed, TimeoutError when the peer takes longer than `step_timeout_s` for a step.
        """
        message = await socket.read_control(timeout_s=self.step_timeout_s)
        if isinstance(message, Enrol):
            await self._enrol(socket, message)
            message = await socket.read_control(timeout_s=self.step_timeout_s)
        if not isinstance(message, Hello):
            raise protocol_error(f"{type(message).__name__} where Hello (or Enrol, then Hello) was expected")
        return Proven(await self._challenge(socket, message), bundles=message.bundles)

    async def _enrol(self, socket: LinkSocket, message: Enrol) -> None:
        _check_version(message.version)
        with enrolling():
            async with asyncio.timeout(self.step_timeout_s), session_scope(self.sessions) as session:
                node = await enrol(session, message)
        log.info("node.enrolled", node=node.name, node_id=show(Prefix.NODE, node.id))
        await socket.write_control(Enrolled(node_id=show(Prefix.NODE, node.id)))

    async def _challenge(self, socket: LinkSocket, hello: Hello) -> NodeIdentity:
        _check_version(hello.version)
        identity = await self._identity(hello)
        server_clock_ms = self._clock_ms()
        # Random and kept only in this call: a proof fits one challenge on one connection.
        nonce = secrets.token_bytes(32)
        await socket.write_control(
            Challenge(nonce=nonce, server=self.server_name, server_clock_ms=server_clock_ms)
        )
        proof = await socket.read_control(timeout_s=self.step_timeout_s)
        if not isinstance(proof, Proof):
            raise protocol_error(f"{type(proof).__name__} where Proof was expected")
        transcript = proof_transcript(
            node_id=hello.node_id, nonce=nonce, server=self.server_name, server_clock_ms=server_clock_ms
        )
        _check_proof(identity, proof.signature, transcript)
        log.info(
            "node.proven",
            node=identity.name,
            role=identity.role,
            agent_version=hello.agent_version[:32],
            clock_skew_ms=hello.clock_ms - server_clock_ms,
        )
        return identity

    async def _identity(self, hello: Hello) -> NodeIdentity:
        try:
            node_id = parse(Prefix.NODE, hello.node_id)
        except ValueError as error:
            raise LinkRefused("unknown_node", f"{error}; enrol this machine again", retry=False) from None
        async with asyncio.timeout(self.step_timeout_s):
            return await self.roll.identity(node_id, NodeRole(hello.role))

    def _clock_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)


def _check_version(version: int) -> None:
    if version != LINK_VERSION:
        raise LinkRefused(
            "version",
            f"link version {version} is not spoken here, only {LINK_VERSION}; install a matching raymart-providers",
            retry=False,
        )


def _check_proof(identity: NodeIdentity, signature: bytes, transcript: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(identity.public_key).verify(signature, transcript)
    except InvalidSignature:
        raise LinkRefused(
            "bad_proof",
            f"the proof was not made with the key that {identity.name!r} enrolled; "
            "restore the node's key or enrol this machine again",
            retry=False,
        ) from None
