"""What a handler gets: connections, settings, its fencing token, and the way to be done in its own transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.connections import Pool
from raymart_billing.solana import Chain
from raymart_core.errors import RaymartError
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.settings import ControlSettings

FINISH = """
    with finished as (
        update outbox set state = 'done', finished_at = clock_timestamp(), locked_by = null, locked_until = null
         where id = :id and fence = :fence and state = 'running'
        returning id
    )
    update task_run set state = 'done', finished_at = clock_timestamp()
      from finished where task_run.id = :run_id and task_run.outbox_id = finished.id
    returning task_run.id
"""
"""Done, if the lease is still ours: the row's fence is the one that this run was given."""


class LeaseLost(RaymartError):
    """Another worker has the row by now, or an operator cancelled it. The handler's transaction must not commit."""


class GiveUp(RaymartError):
    """Raised by a handler that knows that no repeat will help: the row is dead at once, with this error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What all handlers of a process share."""

    sessions: Sessions
    pool: Pool
    """psycopg connections in autocommit."""
    settings: ControlSettings
    redis: Redis
    """Connects when it is first used."""
    chain: Chain | None = None
    """Solana with the treasury's key; None where it is not configured."""


class Context:
    """One run of a periodic."""

    def __init__(self, resources: Resources, *, run_id: UUID, fence: int) -> None:
        self.sessions = resources.sessions
        self.pool = resources.pool
        self.settings = resources.settings
        self.redis = resources.redis
        self.chain = resources.chain
        self.run_id = run_id
        """The row of `task_run`."""
        self.fence = fence
        """Grows with each run of the row; hand it to whatever can refuse an older one."""


class TaskContext(Context):
    """One run of a task."""

    def __init__(
        self, resources: Resources, *, run_id: UUID, fence: int, outbox_id: UUID, attempt: int
    ) -> None:
        super().__init__(resources, run_id=run_id, fence=fence)
        self.outbox_id = outbox_id
        self.attempt = attempt
        """1 for the first run."""
        self.is_finished = False
        """Whether `finish_with` was called; it holds only if that transaction was committed."""
        self.is_committed = False
        """Whether `finishing` saw it committed."""

    async def finish_with(self, session: AsyncSession) -> None:
        """Mark the row done in the transaction of `session`: the effect and "done" are then one fact, exactly once.

        Call it once, last, before the commit. Locks the outbox row. Raises: LeaseLost, and then nothing may be committed.
        """
        assert not self.is_finished, "finish_with was called twice"
        found = await session.scalar(
            text(FINISH), {"id": self.outbox_id, "fence": self.fence, "run_id": self.run_id}
        )
        if found is None:
            raise LeaseLost(
                f"run {self.run_id} with fence {self.fence} is no longer the row's; nothing is committed"
            )
        self.is_finished = True

    @asynccontextmanager
    async def finishing(self) -> AsyncIterator[AsyncSession]:
        """A session whose commit, at the end of the block, also marks the row done. Raises: LeaseLost."""
        async with session_scope(self.sessions) as session:
            yield session
            await self.finish_with(session)
        self.is_committed = True
