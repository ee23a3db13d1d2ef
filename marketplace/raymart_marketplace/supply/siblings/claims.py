"""Which link of a node is the one to use, where several processes say that they have one.

The link that came last: a node that lost its connection comes back, by any process, before the other end of the old one
has noticed. When that one ends too, or was the wrong one, the one before is used again. The database decides which stays
(`supply.presence`); this is what routing does until then.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from raymart_core.wire.link import Replica
from raymart_marketplace.supply.directory import Directory, LiveLink
from raymart_marketplace.supply.enrolment import NodeIdentity

Owner = TypeVar("Owner", bound=Hashable)


@dataclass(slots=True, kw_only=True, eq=False)
class Claim:
    """One process's link of one node, and what the node said there."""

    identity: NodeIdentity
    link: LiveLink
    replicas: Sequence[Replica] = ()
    is_draining: bool = False


class Claims(Generic[Owner]):
    """Keeps the directory in line with the newest claim of each node. Nothing here waits."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._claims: dict[UUID, dict[Owner, Claim]] = {}
        """By node; the newest last."""

    def of(self, owner: Owner, node_id: UUID) -> Claim | None:
        """The owner's claim, whether it is the newest or not."""
        return self._claims.get(node_id, {}).get(owner)

    def by(self, owner: Owner) -> Iterator[Claim]:
        """All claims of one owner."""
        return (claims[owner] for claims in self._claims.values() if owner in claims)

    def up(self, owner: Owner, identity: NodeIdentity, link: LiveLink, *, is_new: bool) -> None:
        """The owner has a link of the node, in place of any it had; one that is not new stands behind all others."""
        others = self._claims.get(identity.node_id, {})
        others.pop(owner, None)
        mine = {owner: Claim(identity=identity, link=link)}
        self._claims[identity.node_id] = {**others, **mine} if is_new else {**mine, **others}
        if is_new or not others:
            self._directory.link_up(identity, link)

    def announced(self, owner: Owner, node_id: UUID, replicas: Sequence[Replica]) -> bool:
        """Replace what the node announced there; whether the database must be asked for new revisions."""
        claim = self.of(owner, node_id)
        if claim is None:
            return False
        claim.replicas = replicas
        return self._directory.announce(node_id, claim.link, replicas)

    def draining(self, owner: Owner, node_id: UUID) -> None:
        """The node said there that it takes no new requests."""
        if (claim := self.of(owner, node_id)) is not None:
            claim.is_draining = True
            self._directory.link_draining(node_id, claim.link)

    def heartbeat(self, owner: Owner, node_id: UUID, running: dict[str, int]) -> None:
        """The node said there what it runs."""
        if (claim := self.of(owner, node_id)) is not None:
            self._directory.heartbeat(node_id, claim.link, running)

    def down(self, owner: Owner, node_id: UUID) -> bool:
        """The owner has no link of the node any more; whether another's is used from now on, of whose facts nothing is known."""
        claims = self._claims.get(node_id, {})
        claim = claims.pop(owner, None)
        if claim is None:
            return False
        self._directory.link_down(node_id, claim.link)
        if not claims:
            del self._claims[node_id]
            return False
        if self._directory.is_linked(node_id):
            return False
        self._use(next(reversed(claims.values())))
        return True

    def _use(self, claim: Claim) -> None:
        node_id = claim.identity.node_id
        self._directory.link_up(claim.identity, claim.link)
        self._directory.announce(node_id, claim.link, claim.replicas)
        if claim.is_draining:
            self._directory.link_draining(node_id, claim.link)
