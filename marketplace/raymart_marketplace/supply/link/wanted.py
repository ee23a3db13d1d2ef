"""Which revisions nodes should hold, asked of the database for all nodes of this process together.

Ten thousand nodes that each look every few seconds would be thousands of questions a second, and each refresh of the
directory another ten thousand.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.weights import WeightsDesk

log = structlog.get_logger()

Tell = Callable[[Sequence[str]], None]
"""Takes the digests that one node should hold, first wanted first."""

_LOOK_S = 5.0
"""How often it is looked whether other processes have changed placements; local changes are looked at at once."""
_PAUSE_S = 0.2
"""Between two looks: a burst of changes is looked at once at its beginning and once at its end."""
_PART_MAX = 1_000
"""Nodes in one statement."""


class WantedRounds:
    """One per process that serves links. Rounds go on while a node is watched."""

    def __init__(self, desk: WeightsDesk, directory: Directory, *, timeout_s: float) -> None:
        """`timeout_s` bounds each statement."""
        self._desk = desk
        self._timeout_s = timeout_s
        self._told: dict[UUID, Tell] = {}
        self._news = asyncio.Event()
        self._round: asyncio.Task[None] | None = None
        # As long as this process serves links, which is as long as the directory lives.
        directory.subscribe(self._news.set)

    def watch(self, node_id: UUID, tell: Tell) -> None:
        """Call `tell` soon, and after every round; the node's newest link has its place."""
        self._told[node_id] = tell
        self._news.set()
        if self._round is None:
            self._round = asyncio.create_task(self._go_on(), name="link.wanted")

    def forget(self, node_id: UUID, tell: Tell) -> None:
        """The link that gave `tell` is gone; a newer one of the node stays watched."""
        if self._told.get(node_id) == tell:
            del self._told[node_id]
            self._news.set()

    async def _go_on(self) -> None:
        try:
            while self._told:
                self._news.clear()
                for part in _parts(list(self._told)):
                    await self._look(part)
                await asyncio.sleep(_PAUSE_S)
                try:
                    async with asyncio.timeout(_LOOK_S - _PAUSE_S):
                        await self._news.wait()
                except TimeoutError:
                    continue
        finally:
            self._round = None

    async def _look(self, node_ids: Sequence[UUID]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                wanted = await self._desk.wanted(node_ids)
        except (SQLAlchemyError, OSError) as error:
            log.warning("link.wanted_missed", nodes=len(node_ids), reason=str(error)[:200])
            return
        for node_id in node_ids:
            tell = self._told.get(node_id)
            if tell is not None:
                tell(wanted.get(node_id, ()))


def _parts(node_ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    return (node_ids[first : first + _PART_MAX] for first in range(0, len(node_ids), _PART_MAX))
