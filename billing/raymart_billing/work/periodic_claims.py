"""Statements on periodics: which is due, who runs it, and when it is due next. All times are the database's."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from raymart_billing.connections import Connection
from raymart_billing.work.claims import LEASE_S
from raymart_billing.work.task import Periodic
from raymart_core.ids import new_id

FAILURE_PAUSE_S_MAX = 300.0
"""A periodic that failed is due again after 1 s, 2 s, 4 s ... up to this, or at its next time if that comes first."""

_REGISTER = b"""
    insert into periodic_job (name, every_s) select * from unnest(%(names)s::text[], %(every_s)s::float8[])
    on conflict (name) do update set every_s = excluded.every_s where periodic_job.every_s <> excluded.every_s
"""
_CLAIM = b"""
    with picked as (
        select name from periodic_job
         where name = any(%(names)s)
           -- Due later than one period from now: it was planned before the database's clock went back, or more rarely.
           and (next_due_at <= clock_timestamp() or next_due_at > clock_timestamp() + make_interval(secs => every_s))
           and (locked_by is null or (
                   not work_worker_is_alive(locked_by)
                   and (locked_until <= clock_timestamp()
                        or locked_until > clock_timestamp() + make_interval(secs => 2 * %(lease_s)s))))
         order by next_due_at
         limit 1
           for no key update skip locked
    ), claimed as (
        update periodic_job set fence = fence + 1, runs = runs + 1, last_started_at = clock_timestamp(),
               locked_by = %(worker)s, locked_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
          from picked where periodic_job.name = picked.name
        returning periodic_job.name, fence, failures_in_a_row
    ), lost as (
        update task_run set state = 'lost', finished_at = clock_timestamp(), error = 'its worker died'
          from claimed where task_run.name = claimed.name and task_run.outbox_id is null and task_run.state = 'running'
    ), begun as (
        insert into task_run (id, name, subject, attempt, fence, worker)
        select %(run_id)s, name, '', failures_in_a_row + 1, fence, %(worker)s from claimed
    )
    select name, fence from claimed
"""
_RENEW = b"""
    update periodic_job set locked_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
     where name = %(name)s and fence = %(fence)s and locked_by is not null
    returning name
"""
_FINISH = b"""
    with told as (select %(error)s::varchar as error, clock_timestamp() as now),
    ours as (
        -- The next time on its grid, so that it does not drift; times that have passed are not made up for.
        select name, error, now, failures_in_a_row,
               case when next_due_at > now then now + make_interval(secs => every_s)
                    else next_due_at + make_interval(secs => every_s
                        * (1 + floor(extract(epoch from now - next_due_at)::float8 / every_s))) end as next_time
          from periodic_job, told
         where name = %(name)s and fence = %(fence)s and locked_by is not null
           for no key update of periodic_job
    ), finished as (
        update periodic_job
           set locked_by = null, locked_until = null, last_finished_at = now, last_error = error,
               last_state = case when error is null then 'done' else 'failed' end,
               failures_in_a_row = case when error is null then 0 else ours.failures_in_a_row + 1 end,
               next_due_at = case when error is null then next_time else least(next_time, now + make_interval(
                   secs => least(%(pause_s_max)s, 2 ^ least(ours.failures_in_a_row, 20)))) end
          from ours where periodic_job.name = ours.name
        returning error, now
    )
    update task_run set state = case when finished.error is null then 'done' else 'failed' end,
           finished_at = finished.now, error = finished.error
      from finished where task_run.id = %(run_id)s
    returning task_run.id
"""
_HAND_BACK = b"""
    with returned as (
        update periodic_job set locked_by = null, locked_until = null, runs = runs - 1
         where name = %(name)s and fence = %(fence)s and locked_by is not null
        returning name
    )
    update task_run set state = 'lost', finished_at = clock_timestamp(), error = 'its worker was stopped'
      from returned where task_run.id = %(run_id)s
    returning task_run.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicClaim:
    """A periodic that is ours to run while its fence is."""

    name: str
    run_id: UUID
    fence: int

    def parameters(self, **more: object) -> dict[str, object]:
        """What the statements on this periodic need, and `more`."""
        return {"name": self.name, "run_id": self.run_id, "fence": self.fence, "lease_s": LEASE_S, **more}


async def register(connection: Connection, periodics: Sequence[Periodic]) -> None:
    """Make rows for those that are new, due at once; change the period of those that have another."""
    parameters = {
        "names": [each.name for each in periodics],
        "every_s": [each.every_s for each in periodics],
    }
    await connection.execute(_REGISTER, parameters)


async def claim_periodic(
    connection: Connection, *, names: Sequence[str], worker: int
) -> PeriodicClaim | None:
    """Lease the periodic that is due longest; None when none is. What runs anywhere is never due."""
    run_id = new_id()
    parameters = {"names": list(names), "worker": worker, "run_id": run_id, "lease_s": LEASE_S}
    row = await (await connection.execute(_CLAIM, parameters)).fetchone()
    return None if row is None else PeriodicClaim(name=row[0], run_id=run_id, fence=row[1])


async def renew_periodic(connection: Connection, claim: PeriodicClaim) -> bool:
    """Extend the lease; False when it is no longer ours."""
    return await _is_ours(connection, _RENEW, claim.parameters())


async def finish_periodic(connection: Connection, claim: PeriodicClaim, *, error: str | None) -> bool:
    """Note how the run went and when the next is due; False when it is no longer ours."""
    parameters = claim.parameters(error=error, pause_s_max=FAILURE_PAUSE_S_MAX)
    return await _is_ours(connection, _FINISH, parameters)


async def hand_back_periodic(connection: Connection, claim: PeriodicClaim) -> bool:
    """Let another worker run it at once: this one is being stopped. False when it is no longer ours."""
    return await _is_ours(connection, _HAND_BACK, claim.parameters())


async def _is_ours(connection: Connection, statement: bytes, parameters: dict[str, object]) -> bool:
    return await (await connection.execute(statement, parameters)).fetchone() is not None
