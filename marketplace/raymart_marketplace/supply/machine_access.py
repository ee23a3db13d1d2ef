"""How a node proves itself over HTTP: a signed challenge gives an access token of a quarter of an hour.

The same proof as on the link (`supply.link.handshake`), under another name of the server, so that neither can be played
back as the other. Challenges and tokens live in Redis, hashed, and are gone with it: a node then proves itself anew.
What a token may still do is asked of Postgres each time, so a revoked node is refused at its next request.
"""

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.clock import Clock
from raymart_core.errors import NotAuthenticated, Unavailable
from raymart_core.ids import Prefix, show
from raymart_core.wire.link import proof_transcript
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.shared_state import REDIS_AWAY, Redis
from raymart_marketplace.supply.enrolment import NodeIdentity, node_for_hello
from raymart_marketplace.supply.models import Node
from raymart_marketplace.supply.refusal import LinkRefused

CHALLENGE_TTL_S = 60
TOKEN_TTL_S = 900
TOKEN_PREFIX = "rmn_"
SERVER_SUFFIX = "/worker"
"""Follows the link's server name in what is signed here."""

_REFUSED = "the proof was not made with the key that this node enrolled, or its challenge is used or over a minute old; ask for another"
_WRONG_TOKEN = (
    "the node's access token is wrong or expired; ask for a challenge and prove the node's key again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChallenge:
    """What a node is to sign."""

    nonce: str
    """32 random bytes in base64url, good for one proof."""
    server: str
    server_clock_ms: int
    """Unix time."""
    expires_in_s: int = CHALLENGE_TTL_S


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeToken:
    """What a proof gives."""

    access_token: str
    expires_in_s: int = TOKEN_TTL_S


class MachineAccess:
    """Challenges, proofs and access tokens of nodes."""

    def __init__(self, sessions: Sessions, redis: Redis, *, server_name: str, clock: Clock) -> None:
        self._sessions = sessions
        self._redis = redis
        self._server = server_name + SERVER_SUFFIX
        self._clock = clock

    async def challenge(self, node_id: UUID) -> NodeChallenge:
        """A challenge for `node_id`, whether there is such a node or not. Raises: Unavailable without Redis."""
        nonce = secrets.token_bytes(32)
        clock_ms = int(self._clock.now().timestamp() * 1000)
        try:
            await self._redis.set(_key("challenge", nonce), f"{node_id.hex} {clock_ms}", ex=CHALLENGE_TTL_S)
        except REDIS_AWAY as error:
            raise _away(error) from error
        shown = base64.urlsafe_b64encode(nonce).decode()
        return NodeChallenge(nonce=shown, server=self._server, server_clock_ms=clock_ms)

    async def prove(self, node_id: UUID, *, nonce: str, signature: str) -> NodeToken:
        """Spend the challenge `nonce`; `signature` is Ed25519 over `proof_transcript`, in base64url as well.

        Whatever is wrong, the challenge is spent and the answer the same.
        Raises: NotAuthenticated, Unavailable without Redis.
        """
        raw_nonce, raw_signature = _decoded(nonce, 32), _decoded(signature, 64)
        try:
            kept = await self._redis.getdel(_key("challenge", raw_nonce))
        except REDIS_AWAY as error:
            raise _away(error) from error
        if kept is None:
            raise NotAuthenticated(_REFUSED)
        asked, _, clock_ms = _text(kept).partition(" ")
        if asked != node_id.hex:
            raise NotAuthenticated(_REFUSED)
        transcript = proof_transcript(
            node_id=show(Prefix.NODE, node_id),
            nonce=raw_nonce,
            server=self._server,
            server_clock_ms=int(clock_ms),
        )
        async with self._sessions() as session:
            identity = await _identity(session, node_id)
        try:
            Ed25519PublicKey.from_public_bytes(identity.public_key).verify(raw_signature, transcript)
        except InvalidSignature:
            raise NotAuthenticated(_REFUSED) from None
        return await self._token(identity)

    async def node(self, session: AsyncSession, authorization: str | None) -> NodeIdentity:
        """The node whose access token an `Authorization` header carries, as it is now.

        Raises: NotAuthenticated, also for a node that was revoked since; Unavailable without Redis.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.startswith(TOKEN_PREFIX):
            raise NotAuthenticated(_WRONG_TOKEN)
        try:
            kept = await self._redis.get(_key("token", token.encode("utf-8", "replace")))
        except REDIS_AWAY as error:
            raise _away(error) from error
        if kept is None:
            raise NotAuthenticated(_WRONG_TOKEN)
        node, _, key = _text(kept).partition(" ")
        identity = await _identity(session, UUID(hex=node))
        if key != _fingerprint(identity):
            # It was proved with a key that the node has replaced since.
            raise NotAuthenticated(_WRONG_TOKEN)
        return identity

    async def _token(self, identity: NodeIdentity) -> NodeToken:
        text = TOKEN_PREFIX + secrets.token_urlsafe(32)
        try:
            value = f"{identity.node_id.hex} {_fingerprint(identity)}"
            await self._redis.set(_key("token", text.encode()), value, ex=TOKEN_TTL_S)
        except REDIS_AWAY as error:
            raise _away(error) from error
        return NodeToken(access_token=text)


async def _identity(session: AsyncSession, node_id: UUID) -> NodeIdentity:
    """The node, if it may speak to us. Raises: NotAuthenticated."""
    role = await session.scalar(select(Node.role).where(Node.id == node_id))
    if role is None:
        raise NotAuthenticated(_REFUSED)
    try:
        return await node_for_hello(session, node_id, role)
    except LinkRefused as refusal:
        raise NotAuthenticated(refusal.message) from None


def _fingerprint(identity: NodeIdentity) -> str:
    return hashlib.sha256(identity.public_key).hexdigest()[:32]


def _key(kind: str, secret: bytes) -> str:
    """Where Redis keeps it: by its hash, so that whoever reads Redis cannot use what is there."""
    return f"raymart:node-{kind}:{hashlib.sha256(secret).hexdigest()}"


def _text(kept: bytes | str) -> str:
    return kept.decode() if isinstance(kept, bytes) else kept


def _decoded(text: str, length: int) -> bytes:
    """`text` out of base64url, with or without padding. Raises: NotAuthenticated unless it is `length` bytes."""
    try:
        raw = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise NotAuthenticated(_REFUSED) from None
    if len(raw) != length:
        raise NotAuthenticated(_REFUSED)
    return raw


def _away(error: BaseException) -> Unavailable:
    return Unavailable(
        f"nodes cannot sign in for the moment ({type(error).__name__}); try again in a few seconds"
    )
