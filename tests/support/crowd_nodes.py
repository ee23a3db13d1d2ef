"""Nodes by the thousand, written straight into the database: what enrolment would have left there."""

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import insert

from raymart_core.wire.link import Hardware
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import Node, NodeRole, NodeState
from support.link_market import Supply

HARDWARE = Hardware(hostname="crowd", cpu_model="crowd", cpu_count=8, memory_bytes=2**36)


def key_of(seed: str, number: int) -> Ed25519PrivateKey:
    """The node's key."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest())


def node_id_of(seed: str, number: int) -> UUID:
    """The node's id."""
    return UUID(bytes=hashlib.sha256(f"node {seed} {number}".encode()).digest()[:16])


async def enrol_crowd(supply: Supply, *, seed: str, nodes: int) -> None:
    """Rows of `nodes` nodes of the supply's provider, ready for service."""
    now = datetime.now(UTC)
    rows = [
        {
            "id": node_id_of(seed, number),
            "pool_id": supply.pool_id,
            "provider_id": supply.provider_id,
            "role": NodeRole.NODE,
            "name": f"crowd-{number}",
            "public_key": key_of(seed, number).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
            "machine_id": f"{seed} {number}",
            "hardware": msgspec.to_builtins(HARDWARE),
            "state": NodeState.READY,
            "qualified_at": now,
            "clock_skew_ms": 0,
        }
        for number in range(nodes)
    ]
    async with session_scope(supply.sessions) as session:
        for first in range(0, nodes, 1_000):
            await session.execute(insert(Node), rows[first : first + 1_000])
