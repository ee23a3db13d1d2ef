"""A node replaces its key: the present one and the new one both sign, over a link that the present one proved.

The marketplace then knows the new key only. An agent that did not hear the answer keeps both, and proves whichever is
taken.
"""

from datetime import timedelta
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, Forbidden, InvalidRequest, Overloaded
from raymart_core.ids import Prefix, show
from raymart_core.wire.membership import RotateKey, rotation_transcript
from raymart_marketplace.supply.life_models import NodeEvent, NodeEventKind
from raymart_marketplace.supply.models import Node
from raymart_marketplace.supply.node_life import living_node, note

EVERY_S = 60
"""A node's key is replaced at most once in so long."""


async def rotate_key(session: AsyncSession, node_id: UUID, message: RotateKey, *, server: str) -> Node:
    """Let the node be known by the new key alone. A repeat of the last rotation is a no-op. Locks the node's row.

    Raises: InvalidRequest, Forbidden when a signature is not what it should be, Conflict when the key is some node's or
    the node is retired, Overloaded when it was replaced a moment ago.
    """
    if len(message.public_key) != 32:
        raise InvalidRequest(f"a raw Ed25519 public key has 32 bytes, not {len(message.public_key)}")
    node = await living_node(session, node_id)
    if node.public_key == message.public_key:
        return node
    transcript = rotation_transcript(
        node_id=show(Prefix.NODE, node_id), server=server, old_key=node.public_key, new_key=message.public_key
    )
    _check(node.public_key, message.old_signature, transcript, which="present")
    _check(message.public_key, message.new_signature, transcript, which="new")
    await _check_pace(session, node_id)
    if await session.scalar(select(Node.id).where(Node.public_key == message.public_key)) is not None:
        raise Conflict("the new key is another node's; make one that nobody has")
    node.public_key = message.public_key
    await note(session, node, NodeEventKind.KEY_ROTATED, reason="")
    return node


def _check(key: bytes, signature: bytes, transcript: bytes, *, which: str) -> None:
    """Raises: Forbidden."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, transcript)
    except InvalidSignature:
        raise Forbidden(f"the {which} key did not sign this rotation; sign it with both keys") from None


async def _check_pace(session: AsyncSession, node_id: UUID) -> None:
    """Raises: Overloaded."""
    recent = select(NodeEvent.id).where(
        NodeEvent.node_id == node_id,
        NodeEvent.event == NodeEventKind.KEY_ROTATED,
        NodeEvent.created_at > func.clock_timestamp() - timedelta(seconds=EVERY_S),
    )
    if await session.scalar(recent.limit(1)) is not None:
        raise Overloaded(
            f"the key was replaced within the last {EVERY_S} s; wait that long", retry_after_s=EVERY_S
        )
