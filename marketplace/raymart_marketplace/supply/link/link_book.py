"""Who is told what a node says on its link: the directory, where one process serves alone."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from raymart_core.wire.link import Replica
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.link.session import LinkSession


class LinkBook(Protocol):
    """Implemented by `supply.directory.Directory`, and by `supply.siblings.Siblings` around it."""

    def link_up(self, identity: NodeIdentity, link: LinkSession) -> None:
        """`identity` is reachable by `link` from now on; replaces an older link of the same node."""

    def link_down(self, node_id: UUID, link: LinkSession) -> None:
        """Take the node's endpoints out of routing at once; a no-op when a newer link has taken over."""

    def link_draining(self, node_id: UUID, link: LinkSession) -> None:
        """The node takes no new requests; those that run go on."""

    def announce(self, node_id: UUID, link: LinkSession, replicas: Sequence[Replica]) -> bool:
        """Replace what the node announced before; whether the database must be asked (`load`) for new revisions."""

    def heartbeat(self, node_id: UUID, link: LinkSession, running: dict[str, int]) -> None:
        """Note the load that the node sees."""

    async def load(self, node_id: UUID) -> None:
        """Read what the database knows of the node. Raises: SQLAlchemyError, OSError, TimeoutError."""
