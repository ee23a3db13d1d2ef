"""What a process has of its siblings: their nodes in its directory, its own nodes in theirs.

Everything that links tell the directory goes through here (`supply.link.link_book`), so that it is told on. A sibling's
nodes are looked up in the database by this process itself, because prices and offers are read again all the time anyway;
when, the process that has the link says (`wire.Look`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.wire.link import Replica
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.enrolment import NodeIdentity
from raymart_marketplace.supply.link.session import LinkSession
from raymart_marketplace.supply.siblings import wire
from raymart_marketplace.supply.siblings.claims import Claim, Claims
from raymart_marketplace.supply.siblings.far_link import FarLink
from raymart_marketplace.supply.siblings.loads import TELL_EVERY_S, SharedLoads
from raymart_marketplace.supply.siblings.meetings import Meeting, Meetings
from raymart_marketplace.supply.siblings.sibling import Sibling

log = structlog.get_logger()

JOIN_TIMEOUT_S = 5.0
"""How long a process that begins waits for what its siblings know before it serves without."""
_LOAD_TIMEOUT_S = 10.0
_RETRY_S = 1.0


class Siblings:
    """One per process that has any. Implements `supply.link.link_book.LinkBook`, and `sibling.Family`."""

    def __init__(self, directory: Directory, meetings: Meetings) -> None:
        self._directory = directory
        self._meetings = meetings
        self._claims: Claims[Sibling | None] = Claims(directory)
        """None owns what is this process's own."""
        self._loads: SharedLoads[Sibling] = SharedLoads(directory)
        self._siblings: set[Sibling] = set()
        self._unsettled: set[Sibling] = set()
        """Those that have not said yet all that they know."""
        self._settled = asyncio.Event()
        self._moved: Callable[[UUID], None] = lambda _: None
        self._looks: set[UUID] = set()
        self._is_looking = False
        self._look_asked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, *, moved: Callable[[UUID], None]) -> None:
        """Get to know siblings; return when what those that are there know is known here, or after `JOIN_TIMEOUT_S`.

        `moved` is called when a node of this process has a link with a sibling too: the one here may be dead.
        """
        self._moved = moved
        self._tasks = {
            asyncio.create_task(self._look_forever(), name="siblings.look"),
            asyncio.create_task(self._tell_forever(), name="siblings.tell"),
        }
        self._meetings.listen(self._meet)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                while self._unsettled or self._looks or self._is_looking:
                    self._settled.clear()
                    await self._settled.wait()

    async def stop(self) -> None:
        """Leave them; their requests on nodes of this process break."""
        for sibling in tuple(self._siblings):
            sibling.close()
        for task in tuple(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # Implements link_book.LinkBook: what links of this process say.

    def link_up(self, identity: NodeIdentity, link: LinkSession) -> None:
        """`identity` is reachable by `link` from now on; replaces an older link of the same node."""
        self._claims.up(None, identity, link, is_new=True)
        self._tell(wire.Up(node=identity, is_new=True))

    def link_down(self, node_id: UUID, link: LinkSession) -> None:
        """The link is gone; a no-op when a newer one has taken over."""
        if self.own_link(node_id) is link:
            self._tell(wire.Down(node_id=node_id))
            self._loads.gone(node_id)
            self._down(None, node_id)

    def link_draining(self, node_id: UUID, link: LinkSession) -> None:
        """The node takes no new requests."""
        if self.own_link(node_id) is link:
            self._claims.draining(None, node_id)
            self._tell(wire.Draining(node_id=node_id))

    def announce(self, node_id: UUID, link: LinkSession, replicas: Sequence[Replica]) -> bool:
        """Replace what the node announced before; whether the database must be asked for new revisions."""
        if self.own_link(node_id) is not link:
            return False
        self._tell(wire.Announced(node_id=node_id, replicas=tuple(replicas)))
        return self._announced(None, node_id, replicas)

    def heartbeat(self, node_id: UUID, link: LinkSession, running: dict[str, int]) -> None:
        """Note the load that the node sees."""
        if self.own_link(node_id) is link:
            self._claims.heartbeat(None, node_id, running)
            self._loads.reported(node_id, running)

    async def load(self, node_id: UUID) -> None:
        """Read what the database knows of the node, here and there. Raises: SQLAlchemyError, OSError, TimeoutError."""
        await self._directory.load(node_id)
        self._tell(wire.Look(node_id=node_id))

    # Implements sibling.Family: what siblings say.

    def own_link(self, node_id: UUID) -> LinkSession | None:
        """This process's link of the node."""
        claim = self._claims.of(None, node_id)
        return claim.link if claim is not None and isinstance(claim.link, LinkSession) else None

    def met(self, sibling: Sibling) -> None:
        """Tell it all; what changes from now on it is told as everybody is."""
        self._siblings.add(sibling)
        log.info("sibling.met", siblings=len(self._siblings))
        sibling.say(wire.Hello(version=wire.VERSION))
        for claim in self._claims.by(None):
            _introduce(claim, sibling)
        sibling.say(self._loads.everything())
        sibling.say(wire.Settled())

    def heard(self, sibling: Sibling, message: wire.Message) -> None:
        """Do what it says to the directory. Raises: ValueError when it is of another version."""
        match message:
            case wire.Hello(version=version):
                if version != wire.VERSION:
                    raise ValueError(f"version {version} of what siblings say; this is {wire.VERSION}")
            case wire.Settled():
                for claim in self._claims.by(sibling):
                    self._look(claim.identity.node_id)
                self._is_settled(sibling)
            case wire.Loads(running=running, leased=leased):
                self._loads.hear(sibling, leased)
                for node_id, reported in running.items():
                    self._claims.heartbeat(sibling, node_id, reported)
            case _:
                self._heard_of_node(sibling, message)

    def lost(self, sibling: Sibling) -> None:
        """Its nodes are gone, and its requests."""
        self._siblings.discard(sibling)
        self._is_settled(sibling)
        nodes = [claim.identity.node_id for claim in self._claims.by(sibling)]
        for node_id in nodes:
            self._down(sibling, node_id)
        self._loads.forget(sibling)
        log.info("sibling.lost", nodes=len(nodes), siblings=len(self._siblings))

    def _heard_of_node(self, sibling: Sibling, message: wire.NodeMessage) -> None:
        match message:
            case wire.Up(node=identity, is_new=is_new):
                self._claims.up(sibling, identity, FarLink(sibling, identity.node_id), is_new=is_new)
            case wire.Announced(node_id=node_id, replicas=replicas):
                self._announced(sibling, node_id, replicas)
            case wire.Draining(node_id=node_id):
                self._claims.draining(sibling, node_id)
            case wire.Down(node_id=node_id):
                self._down(sibling, node_id)
            case wire.Look(node_id=node_id):
                self._look(node_id)
                # Not when its link came up there: only now the database knows of that, and says which of both ends.
                if self._claims.of(sibling, node_id) is not None and self.own_link(node_id) is not None:
                    self._moved(node_id)

    def _meet(self, meeting: Meeting) -> None:
        sibling = Sibling(self, is_elder=meeting.is_elder)
        self._unsettled.add(sibling)
        task = asyncio.create_task(self._connect(sibling, meeting), name="siblings.meet")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, sibling: Sibling, meeting: Meeting) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: sibling, sock=meeting.socket)
        except OSError as error:
            log.warning("sibling.not_met", reason=str(error))
            self._is_settled(sibling)

    def _is_settled(self, sibling: Sibling) -> None:
        self._unsettled.discard(sibling)
        self._settled.set()

    def _tell(self, message: wire.Message) -> None:
        for sibling in self._siblings:
            sibling.say(message)

    async def _tell_forever(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            if self._siblings and (news := self._loads.news()) is not None:
                self._tell(news)

    def _announced(self, owner: Sibling | None, node_id: UUID, replicas: Sequence[Replica]) -> bool:
        is_unknown = self._claims.announced(owner, node_id, replicas)
        self._loads.count(node_id)
        return is_unknown

    def _down(self, owner: Sibling | None, node_id: UUID) -> None:
        if self._claims.down(owner, node_id):
            # Another's link is used from now on, and the directory knows nothing of the node.
            self._loads.count(node_id)
            self._look(node_id)

    def _look(self, node_id: UUID) -> None:
        self._looks.add(node_id)
        self._look_asked.set()

    async def _look_forever(self) -> None:
        while True:
            await self._look_asked.wait()
            self._look_asked.clear()
            looks, self._looks, self._is_looking = self._looks, set(), True
            try:
                async with asyncio.timeout(_LOAD_TIMEOUT_S), asyncio.TaskGroup() as tasks:
                    # All wait for one statement, or a few (`supply.batches`).
                    for node_id in looks:
                        tasks.create_task(self._directory.load(node_id))
            except* (SQLAlchemyError, OSError) as errors:
                log.warning(
                    "siblings.database_away", nodes=len(looks), reason=str(errors.exceptions[0])[:200]
                )
                self._looks |= looks
                await asyncio.sleep(_RETRY_S)
                self._look_asked.set()
            self._is_looking = False
            self._settled.set()


def _introduce(claim: Claim, sibling: Sibling) -> None:
    node_id = claim.identity.node_id
    sibling.say(wire.Up(node=claim.identity, is_new=False))
    sibling.say(wire.Announced(node_id=node_id, replicas=tuple(claim.replicas)))
    if claim.is_draining:
        sibling.say(wire.Draining(node_id=node_id))
