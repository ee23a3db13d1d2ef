"""Statements on outbox rows. Each is one transaction of its own, and each but the first two is conditional on the fence.

All times are the database's. A worker that is thought dead and is not (a zombie) changes nothing: its fence is old.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from raymart_billing.connections import Connection
from raymart_core.ids import new_id

LEASE_S = 6.0
"""How long a row stays a worker's without a renewal."""
RENEW_S = LEASE_S / 3

_CLAIM = b"""
    with picked as (
        select id from outbox
         where state = 'ready' and task = any(%(tasks)s) and (id = %(id)s or %(id)s::uuid is null)
           -- A subquery, for an index cannot be searched by a volatile function.
           and due_at <= (select clock_timestamp())
         order by due_at
         limit 1
           for no key update skip locked
    ), claimed as (
        update outbox set state = 'running', attempts = attempts + 1, fence = fence + 1, locked_by = %(worker)s,
               locked_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
          from picked where outbox.id = picked.id
        returning outbox.id, task, subject, attempts, fence
    ), begun as (
        insert into task_run (id, outbox_id, name, subject, attempt, fence, worker)
        select %(run_id)s, id, task, subject, attempts, fence, %(worker)s from claimed
    )
    select id, task, subject, attempts, fence from claimed
"""
_RECLAIM = b"""
    with lost as (
        update outbox set state = 'ready', due_at = clock_timestamp(), locked_by = null, locked_until = null,
               last_error = %(error)s
         where state = 'running' and not work_worker_is_alive(locked_by)
           -- A lease that ends later than any can end was given before the database's clock went back.
           and (locked_until <= (select clock_timestamp())
                or locked_until > (select clock_timestamp()) + make_interval(secs => 2 * %(lease_s)s))
        returning id
    ), told as (
        update task_run set state = 'lost', finished_at = clock_timestamp(), error = %(error)s
          from lost where task_run.outbox_id = lost.id and task_run.state = 'running'
    )
    select count(*) from lost
"""
_RENEW = b"""
    update outbox set locked_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
     where id = %(id)s and fence = %(fence)s and state = 'running'
    returning id
"""
_FINISH = b"""
    with finished as (
        update outbox set state = 'done', finished_at = clock_timestamp(), locked_by = null, locked_until = null
         where id = %(id)s and fence = %(fence)s and state = 'running'
        returning id
    )
    update task_run set state = 'done', finished_at = clock_timestamp()
      from finished where task_run.id = %(run_id)s
    returning task_run.id
"""
_IS_FINISHED = b"select id from outbox where id = %(id)s and fence = %(fence)s and state = 'done'"
_FAIL = b"""
    with failed as (
        update outbox set state = case when %(is_dead)s then 'dead' else 'ready' end, last_error = %(error)s,
               due_at = clock_timestamp() + make_interval(secs => %(pause_s)s), locked_by = null, locked_until = null,
               finished_at = case when %(is_dead)s then clock_timestamp() end
         where id = %(id)s and fence = %(fence)s and state = 'running'
        returning id
    )
    update task_run set state = 'failed', finished_at = clock_timestamp(), error = %(error)s
      from failed where task_run.id = %(run_id)s
    returning task_run.id
"""
_HAND_BACK = b"""
    with returned as (
        update outbox set state = 'ready', due_at = clock_timestamp(), attempts = attempts - 1,
               locked_by = null, locked_until = null
         where id = %(id)s and fence = %(fence)s and state = 'running'
        returning id
    )
    update task_run set state = 'lost', finished_at = clock_timestamp(), error = 'its worker was stopped'
      from returned where task_run.id = %(run_id)s
    returning task_run.id
"""
_WORKER_DIED = "its worker died"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A row that is ours while its fence is."""

    outbox_id: UUID
    run_id: UUID
    task: str
    subject: str
    attempt: int
    fence: int

    def parameters(self, **more: object) -> dict[str, object]:
        """What the statements on this row need, and `more`."""
        return {"id": self.outbox_id, "run_id": self.run_id, "fence": self.fence, "lease_s": LEASE_S, **more}


async def claim(
    connection: Connection, *, tasks: Sequence[str], worker: int, outbox_id: UUID | None = None
) -> Claim | None:
    """Lease the row `outbox_id`, or else the one that is due longest, of these tasks; None when none is due.

    What another worker is claiming in this moment is passed over.
    """
    run_id = new_id()
    parameters = {
        "tasks": list(tasks), "worker": worker, "id": outbox_id, "run_id": run_id, "lease_s": LEASE_S
    }  # fmt: skip
    row = await (await connection.execute(_CLAIM, parameters)).fetchone()
    if row is None:
        return None
    found, task, subject, attempt, fence = row
    return Claim(outbox_id=found, run_id=run_id, task=task, subject=subject, attempt=attempt, fence=fence)


async def reclaim_lost(connection: Connection) -> int:
    """Make rows ready again whose lease has ended and whose worker is gone; returns how many.

    Both must hold: a clock that jumps ends no lease of a living worker, and a lost connection alone ends none either.
    """
    row = await (await connection.execute(_RECLAIM, {"lease_s": LEASE_S, "error": _WORKER_DIED})).fetchone()
    assert row is not None
    return int(row[0])


async def renew(connection: Connection, claim: Claim) -> bool:
    """Extend the lease; False when the row is no longer ours."""
    return await _is_ours(connection, _RENEW, claim.parameters())


async def finish(connection: Connection, claim: Claim) -> bool:
    """Mark the row done; False when it is no longer ours."""
    return await _is_ours(connection, _FINISH, claim.parameters())


async def is_finished(connection: Connection, claim: Claim) -> bool:
    """Whether this very run has marked its row done."""
    return await _is_ours(connection, _IS_FINISHED, claim.parameters())


async def fail(connection: Connection, claim: Claim, *, error: str, pause_s: float, is_dead: bool) -> bool:
    """Note the error; the row is due again after `pause_s`, or dead. False when it is no longer ours."""
    parameters = claim.parameters(error=error, pause_s=pause_s, is_dead=is_dead)
    return await _is_ours(connection, _FAIL, parameters)


async def hand_back(connection: Connection, claim: Claim) -> bool:
    """Make the row ready at once, as if this run had not been: its worker is being stopped."""
    return await _is_ours(connection, _HAND_BACK, claim.parameters())


async def _is_ours(connection: Connection, statement: bytes, parameters: dict[str, object]) -> bool:
    return await (await connection.execute(statement, parameters)).fetchone() is not None
