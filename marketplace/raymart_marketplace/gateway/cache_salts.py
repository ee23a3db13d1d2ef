"""What keeps the prefix caches of tenants apart on machines that serve many of them.

A prefix that is cached answers sooner and is reported as cached, so a shared cache would tell one customer what another
has asked. Engines hash the salt into every cached block. It names no one: it is another on every node and every day,
so that providers cannot tell by it whether two of them serve the same customer, nor follow one for long.
"""

import hashlib
from functools import lru_cache
from uuid import UUID

from raymart_core import clock

_DIGEST_BYTES = 16
REMEMBERED_MAX = 4_096
"""Salts in use that are kept, some 150 bytes each."""


class CacheSalts:
    """Salts made with one secret; every gateway process of an installation has the same."""

    def __init__(self, secret: bytes) -> None:
        """`secret` is of any length; it is not kept as it is."""
        assert secret
        self._key = hashlib.blake2b(secret, person=b"raymart-salt").digest()
        self._salt = lru_cache(maxsize=REMEMBERED_MAX)(self._made)

    def salt(self, *, organization_id: UUID, node_id: UUID) -> str:
        """The tenant's salt on this node today, 32 hex digits. A day ends at midnight UTC: caches are then filled anew."""
        return self._salt(organization_id.int, node_id.int, clock.now().toordinal())

    def _made(self, organization: int, node: int, day: int) -> str:
        named = organization.to_bytes(16) + node.to_bytes(16) + day.to_bytes(4)
        return hashlib.blake2b(named, key=self._key, digest_size=_DIGEST_BYTES).hexdigest()
