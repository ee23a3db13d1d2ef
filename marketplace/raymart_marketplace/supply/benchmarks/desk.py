"""What the benchmarks of one process share: how many run at once, who proves products, and who wants a node measured."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.wire.products import row_norms
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.benchmarks.examination import Effort
from raymart_marketplace.supply.benchmarks.records import lose_abandoned, requested

log = structlog.get_logger()

_RUNNING_MAX = 16
"""Benchmarks at once in one process: each proves products for up to a second of a core."""
_POLL_S = 2.0
_ABANDONED_EVERY = 15
"""Polls from one look for abandoned benchmarks to the next: they are half a minute old at the least."""
_STEP_TIMEOUT_S = 10.0


class BenchmarkDesk:
    """Every node whose link is in this process and whom nobody else measures. Start it, and stop it at the end."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        effort: Effort | None = None,
        retry_s: Sequence[float] = (5.0, 60.0, 600.0, 3_600.0, 21_600.0),
        poll_s: float = _POLL_S,
    ) -> None:
        """`retry_s`: pauses after failures in a row; the last one repeats."""
        self.effort = effort or Effort()
        self.running = asyncio.Semaphore(_RUNNING_MAX)
        self.outcomes: Counter[str] = Counter()
        """How benchmarks of this process ended: "passed", or each reason of a failure once."""
        self._sessions = sessions
        self._retry_s = tuple(retry_s)
        self._poll_s = poll_s
        self._kicks: dict[UUID, Callable[[], None]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look for requests from now on."""
        self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Look no more."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    def pause_s(self, failures: int) -> float:
        """How long to wait after `failures` failures in a row, at least one."""
        return self._retry_s[min(failures, len(self._retry_s)) - 1]

    def attend(self, node_id: UUID, kick: Callable[[], None]) -> Callable[[], None]:
        """Have `kick` called when somebody wants the node measured; the result ends that."""
        self._kicks[node_id] = kick

        def leave() -> None:
            if self._kicks.get(node_id) is kick:
                del self._kicks[node_id]

        return leave

    def kick(self, node_id: UUID) -> None:
        """The node is wanted measured: known here at once, in other processes within seconds."""
        kick = self._kicks.get(node_id)
        if kick is not None:
            kick()

    async def prove(self, seed: bytes, size: int, rows: Sequence[tuple[int, int]]) -> Sequence[int]:
        """Norms of rows of products, computed in a thread: up to half a second of a core."""
        return await asyncio.to_thread(row_norms, seed, size, rows)

    async def _poll(self) -> None:
        for number in itertools.count():
            await asyncio.sleep(self._poll_s)
            try:
                async with asyncio.timeout(_STEP_TIMEOUT_S), session_scope(self._sessions) as session:
                    if number % _ABANDONED_EVERY == 0:
                        await lose_abandoned(session)
                    wanted = await requested(session)
            except (SQLAlchemyError, OSError) as error:
                log.warning("benchmark.database_away", reason=str(error)[:200])
                continue
            for node_id in wanted:
                self.kick(node_id)
