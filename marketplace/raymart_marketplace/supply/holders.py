"""Which nodes hold which revisions and share them: what linked nodes announce of their model caches. Memory only.

A process knows the nodes whose links end in it. What it does not know comes from the object store instead: slower, and
never wrong.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from uuid import UUID

from raymart_core.wire.link import CACHED_MAX, ModelCache
from raymart_core.wire.manifest import REVISION_DIGEST
from raymart_marketplace.supply.enrolment import NodeIdentity

PEERS_MAX = 4
"""Named to one node at once: as many as it has ranges in flight."""
_SECRET_CHARACTERS = range(16, 257)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A node that serves the artifacts of revisions to its pool."""

    node_id: UUID
    address: str
    """host:port of a private or loopback IP."""
    secret: str


@dataclass(frozen=True, slots=True)
class _Entry:
    link: object
    pool_id: UUID
    holder: Holder
    revisions: frozenset[str]


class Holders:
    """The shared model caches of this process's nodes."""

    def __init__(self) -> None:
        self._nodes: dict[UUID, _Entry] = {}

    def announce(self, identity: NodeIdentity, link: object, cache: ModelCache) -> None:
        """Replace what the node shares; one that shares nothing, or at an address that is none, is left out.

        An address is the node's own claim, and other nodes will connect to it: only inside ones are believed.
        """
        self._nodes.pop(identity.node_id, None)
        if not is_inside(cache.address) or len(cache.secret) not in _SECRET_CHARACTERS:
            return
        self._nodes[identity.node_id] = _Entry(
            link,
            identity.pool_id,
            Holder(node_id=identity.node_id, address=cache.address, secret=cache.secret),
            frozenset(cached_digests(cache)),
        )

    def forget(self, node_id: UUID, link: object) -> None:
        """The node's link is gone; a no-op when a newer one has announced."""
        entry = self._nodes.get(node_id)
        if entry is not None and entry.link is link:
            del self._nodes[node_id]

    def holds(self, node_id: UUID, revision: str) -> bool:
        """Whether the node shares `revision`."""
        entry = self._nodes.get(node_id)
        return entry is not None and revision in entry.revisions

    def of(self, revision: str, *, asker: NodeIdentity, from_loopback: bool) -> Sequence[Holder]:
        """At most `PEERS_MAX` other nodes of the asker's pool that hold `revision`, chosen by chance to spread load.

        Loopback addresses are of use only to a node that itself listens there: both are on one machine, for trials.
        """
        found = [
            entry.holder
            for node_id, entry in self._nodes.items()
            if entry.pool_id == asker.pool_id
            and node_id != asker.node_id
            and revision in entry.revisions
            and (from_loopback or not is_loopback(entry.holder.address))
        ]
        return random.sample(found, min(PEERS_MAX, len(found)))


def cached_digests(cache: ModelCache) -> tuple[str, ...]:
    """What the node says that it holds, as far as it is well-formed; sorted, each once."""
    digests = cache.revisions[:CACHED_MAX]
    return tuple(sorted({digest for digest in digests if REVISION_DIGEST.fullmatch(digest)}))


def is_inside(address: str) -> bool:
    """Whether "host:port" is an IP address of a private network or of loopback, and no link-local service."""
    host, _, port = address.rpartition(":")
    try:
        ip = ip_address(host.strip("[]"))
    except ValueError:
        return False
    usable = ip.is_private and not (ip.is_link_local or ip.is_unspecified or ip.is_multicast)
    return usable and port.isascii() and port.isdecimal() and 0 < int(port) < 65_536


def is_loopback(address: str) -> bool:
    """Whether a "host:port" of which `is_inside` holds, or the empty one, is this machine itself."""
    host = address.rpartition(":")[0].strip("[]")
    return bool(host) and ip_address(host).is_loopback
