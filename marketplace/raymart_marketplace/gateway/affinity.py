"""Which requests want the same endpoint: those of one customer whose conversations begin alike.

The engine has the beginning in its cache where it served it last. The digest is of the tenant too: what is shared in
engines is shared within a tenant only (`cache_salts.py`).
"""

from hashlib import blake2b
from uuid import UUID

from raymart_marketplace.gateway.request import ChatRequest

CHARACTERS_MAX = 4_096
"""Of each of the first messages; an engine's cache works on whole beginnings, and most differ long before."""


def affinity_of(request: ChatRequest, organization_id: UUID) -> int:
    """64 bits of the conversation's first turn: what comes before the first answer, which all its later turns share."""
    digest = blake2b(organization_id.bytes, digest_size=8)
    digest.update(request.model.encode())
    for message in request.turns:
        if message.role == "assistant":
            break
        digest.update(
            f"\x00{message.role}\x00{str(message.content)[:CHARACTERS_MAX]}".encode("utf-8", "replace")
        )
    return int.from_bytes(digest.digest(), "big")
