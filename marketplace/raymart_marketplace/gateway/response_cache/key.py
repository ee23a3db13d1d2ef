"""What makes two requests the same: a keyed hash, so that Redis does not tell who asked what twice."""

import hashlib
from uuid import UUID

import msgspec

from raymart_marketplace.gateway.request import ChatRequest

_NOT_COMPARED = frozenset({"cache_ttl_s", "content_bytes"})
"""Fields of `ChatRequest` that change nothing about its answer. A new field is compared unless it is added here."""
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def is_repeatable(request: ChatRequest) -> bool:
    """Whether the same request has the same answer: greedy, or with a seed."""
    return request.sampling.temperature == 0 or request.sampling.seed is not None


def request_digest(request: ChatRequest) -> bytes:
    """Of everything that is asked, routing preference included."""
    asked = {name: getattr(request, name) for name in request.__struct_fields__ if name not in _NOT_COMPARED}
    return hashlib.sha256(_encode(asked)).digest()


def answer_key(secret: bytes, *, organization_id: UUID, revision: str, digest: bytes) -> str:
    """Names the answer of a revision ("sha256:<hex>") to a request of an organization; 64 hex digits.

    `secret` is at most 64 bytes.
    """
    named = organization_id.bytes + digest + revision.encode()
    return hashlib.blake2b(named, key=secret, digest_size=32).hexdigest()
