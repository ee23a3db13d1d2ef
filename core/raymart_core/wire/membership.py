"""Link messages about a machine's place in the market: its key, whether it takes requests, its pool's Ray cluster.

Part of `raymart_core.wire.link`'s conversation.
"""

from typing import Literal

import msgspec


class RotateKey(msgspec.Struct, frozen=True, tag_field="m", tag="rotate_key"):
    """The node replaces its key. Both keys sign, so that neither a thief of the link nor of the new key alone can."""

    public_key: bytes
    """The new one, raw Ed25519, 32 bytes."""
    old_signature: bytes
    """By the present key, over `rotation_transcript`."""
    new_signature: bytes
    """By the new key, over the same."""


class KeyRotated(msgspec.Struct, frozen=True, tag_field="m", tag="key_rotated"):
    """The marketplace knows the new key only, from now on; the old one is refused."""

    public_key: bytes
    problem: str = ""
    """Why the key was not replaced; empty when it was."""


class DrainAsk(msgspec.Struct, frozen=True, tag_field="m", tag="drain_ask"):
    """The machine's owner wants it drained, or back."""

    resume: bool = False
    notice_s: float = 0.0
    """How long what runs may go on."""
    reason: str = ""


class Drain(msgspec.Struct, frozen=True, tag_field="m", tag="drain"):
    """How the node stands with the marketplace; also the answer to `DrainAsk`."""

    draining: bool
    notice_s: float = 0.0
    """What still runs after this many seconds may be cut."""
    reason: str = ""


class PoolAsk(msgspec.Struct, frozen=True, tag_field="m", tag="pool_ask"):
    """A machine of a house pool wants to be a member of its Ray cluster. Also before a certificate expires."""

    csr: bytes
    """PKCS#10 certificate request in PEM; its key never leaves the machine."""
    role: Literal["node", "head", "controller"]
    address: str
    """IP address of the machine in the pool's private network; the certificate names it."""
    head_port: int = 0
    """Where the head listens; of role head only."""


class PoolGrant(msgspec.Struct, frozen=True, tag_field="m", tag="pool_grant"):
    """What a member joins with."""

    certificate: bytes
    """PEM, signed by the pool's own authority."""
    authority: bytes
    """PEM of that authority's certificate."""
    token: str
    """Ray's token, the same for all members: whoever has it can do everything in the cluster."""
    head: str
    """host:port of the head; empty where none is known yet."""
    labels: dict[str, str]
    """Ray labels of the node."""
    expires_in_s: float
    """Of the certificate; ask again in time."""


class PoolRefusal(msgspec.Struct, frozen=True, tag_field="m", tag="pool_refusal"):
    """There is no grant."""

    message: str
    """What to do."""
    retry: bool


def rotation_transcript(*, node_id: str, server: str, old_key: bytes, new_key: bytes) -> bytes:
    """The bytes that both keys sign when a node replaces its key."""
    return msgspec.msgpack.encode(("raymart key rotation", 1, server, node_id, old_key, new_key))
