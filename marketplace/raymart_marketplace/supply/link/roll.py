"""What the database is asked of all links of this process, together instead of link by link.

A node that says hello, a link that is up, a link that is gone: in a storm these come by the thousand, and each batch is
one transaction (`supply.batches`). While links live, the roll is called: every `recheck_s` each of them is marked seen,
and those that the database does not vouch for (revoked, superseded, of a provider that is suspended) are told to look
for themselves, which ends them with the right word.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.ids import Prefix, show
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.batches import Batches
from raymart_marketplace.supply.enrolment import NodeIdentity, nodes_for_hello
from raymart_marketplace.supply.models import NodeRole
from raymart_marketplace.supply.presence import links_doubted, links_lost, links_up
from raymart_marketplace.supply.refusal import LinkRefused
from raymart_marketplace.supply.standing import Standing, standings

log = structlog.get_logger()

_CALLS_A_ROUND = 10
"""A round is cut into so many parts, evenly over its time, so that nobody waits for ten thousand rows at once."""
_PART_MAX = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Called:
    """One live link, as the roll knows it."""

    link_id: UUID
    doubt: Callable[[], None]
    since: float


class RollCall:
    """One per process that serves links."""

    def __init__(self, sessions: Sessions, *, recheck_s: float, timeout_s: float) -> None:
        """`timeout_s` bounds each statement of the roll; callers bound what they ask for themselves."""
        self._sessions = sessions
        self._recheck_s = recheck_s
        self._timeout_s = timeout_s
        self._called: dict[UUID, _Called] = {}
        self._caller: asyncio.Task[None] | None = None
        self._hellos: Batches[tuple[UUID, NodeRole], None, NodeIdentity | LinkRefused | None]
        self._hellos = Batches(self._look_up, missing=None)
        self._standings: Batches[UUID, None, Standing] = Batches(self._look_at_standings, missing=Standing())
        self._ups: Batches[tuple[UUID, bool], UUID, bool] = Batches(self._note_up, missing=False)
        self._losses: Batches[tuple[UUID, UUID], None, None] = Batches(self._note_lost, missing=None)

    async def identity(self, node_id: UUID, role: NodeRole) -> NodeIdentity:
        """The node that says hello as `role`. Raises: LinkRefused (unknown_node, revoked), SQLAlchemyError, OSError."""
        found = await self._hellos.ask((node_id, role), None)
        if isinstance(found, NodeIdentity):
            return found
        # Raised anew: one refusal may answer several connections of one node.
        assert found is not None, show(Prefix.NODE, node_id)
        raise LinkRefused(found.reason, found.message, retry=found.retry)

    async def standing(self, node_id: UUID) -> Standing:
        """How the node stands now. Raises: SQLAlchemyError, OSError."""
        return await self._standings.ask(node_id, None)

    async def up(self, node_id: UUID, link_id: UUID, *, qualified: bool) -> bool:
        """The node has the link `link_id` now (`presence.link_up`); False when its key is revoked.

        Raises: SQLAlchemyError, OSError.
        """
        return await self._ups.ask((node_id, qualified), link_id)

    async def lost(self, node_id: UUID, link_id: UUID) -> None:
        """The link is gone (`presence.links_lost`). Raises: SQLAlchemyError, OSError."""
        await self._losses.ask((node_id, link_id), None)

    @contextmanager
    def called(self, node_id: UUID, link_id: UUID, doubt: Callable[[], None]) -> Iterator[None]:
        """While the block runs the link is called with the others; `doubt` is called when it is not vouched for."""
        mine = self._called[node_id] = _Called(link_id=link_id, doubt=doubt, since=time.monotonic())
        if self._caller is None:
            self._caller = asyncio.create_task(self._call_forever(), name="link.roll")
        try:
            yield
        finally:
            # A newer link of the node may have its place by now.
            if self._called.get(node_id) is mine:
                del self._called[node_id]

    async def _call_forever(self) -> None:
        """Round after round, until no link is left."""
        try:
            while self._called:
                everyone = list(self._called)
                size = min(_PART_MAX, -(-len(everyone) // _CALLS_A_ROUND))
                pause_s = self._recheck_s * size / len(everyone)
                for first in range(0, len(everyone), size):
                    await asyncio.sleep(pause_s)
                    await self._call(everyone[first : first + size])
        finally:
            self._caller = None

    async def _call(self, node_ids: Collection[UUID]) -> None:
        settled_by = time.monotonic() - self._recheck_s
        # A link younger than a round has just been looked at, or is about to be.
        present = {
            node_id: entry
            for node_id in node_ids
            if (entry := self._called.get(node_id)) is not None and entry.since <= settled_by
        }
        if not present:
            return
        links = {node_id: entry.link_id for node_id, entry in present.items()}
        try:
            async with asyncio.timeout(self._timeout_s), session_scope(self._sessions) as session:
                doubted = await links_doubted(session, links)
        except (SQLAlchemyError, OSError) as error:
            log.warning("link.roll_missed", links=len(links), reason=str(error)[:200])
            return
        for node_id in doubted:
            entry = present[node_id]
            if self._called.get(node_id) is entry:
                entry.doubt()

    async def _look_up(
        self, asked: Mapping[tuple[UUID, NodeRole], None]
    ) -> Mapping[tuple[UUID, NodeRole], NodeIdentity | LinkRefused | None]:
        async with session_scope(self._sessions) as session:
            found = await nodes_for_hello(session, list(asked))
        return dict(found)

    async def _look_at_standings(self, asked: Mapping[UUID, None]) -> Mapping[UUID, Standing]:
        async with session_scope(self._sessions) as session:
            return await standings(session, list(asked))

    async def _note_up(self, asked: Mapping[tuple[UUID, bool], UUID]) -> Mapping[tuple[UUID, bool], bool]:
        answers: dict[tuple[UUID, bool], bool] = {}
        async with session_scope(self._sessions) as session:
            for qualified in (False, True):
                links = {node_id: link_id for (node_id, each), link_id in asked.items() if each is qualified}
                for node_id in await links_up(session, links, qualified=qualified):
                    answers[node_id, qualified] = True
        return answers

    async def _note_lost(self, asked: Mapping[tuple[UUID, UUID], None]) -> Mapping[tuple[UUID, UUID], None]:
        async with session_scope(self._sessions) as session:
            left = list(asked)
            while left:
                # One link of each node at a time: a node may have lost two, and only one of them is its present one.
                links = dict(left)
                await links_lost(session, links)
                left = [(node_id, link_id) for node_id, link_id in left if links[node_id] != link_id]
        return {}
