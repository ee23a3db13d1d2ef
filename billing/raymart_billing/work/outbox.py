"""The outbox: an effect is asked for by a row in the transaction that causes it, so neither exists without the other."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.connections import Connection
from raymart_billing.work.hints import hint_after_commit
from raymart_core.errors import Conflict
from raymart_core.ids import new_id

TEXT_LENGTH_MAX: Final = 200
"""Characters of a task's name, a subject or a key; subjects are ids."""

_INSERT = """
    insert into outbox (id, task, subject, key, due_at)
    values ({id}, {task}, {subject}, {key}, coalesce(cast({not_before} as timestamptz), clock_timestamp()))
    on conflict (task, key) do nothing
    returning id
"""
_FIND = "select id, subject from outbox where task = {task} and key = {key}"
_NAMES = ("id", "task", "subject", "key", "not_before")
_INSERT_BY_SESSION = text(_INSERT.format(**{name: f":{name}" for name in _NAMES}))
_FIND_BY_SESSION = text(_FIND.format(task=":task", key=":key"))
_INSERT_BY_CONNECTION = _INSERT.format(**{name: f"%({name})s" for name in _NAMES}).encode()
_FIND_BY_CONNECTION = _FIND.format(task="%(task)s", key="%(key)s").encode()


async def enqueue(
    session: AsyncSession,
    *,
    task: str,
    subject: str,
    key: str | None = None,
    not_before: datetime | None = None,
) -> UUID:
    """Ask for `task` on `subject` when this transaction commits; returns the row's id.

    With a `key`, a repeat for the same task returns the first row, also after it is done (it is remembered for 30 days).
    `not_before` is in the database's time. A worker is told after the commit; if that is lost, the sweeper finds the row.
    Raises: Conflict (the key stands for another subject).
    """
    _check(task=task, subject=subject, key=key, not_before=not_before)
    outbox_id = new_id()
    values = {"id": outbox_id, "task": task, "subject": subject, "key": key, "not_before": not_before}
    if await session.scalar(_INSERT_BY_SESSION, values) is None:
        found = (await session.execute(_FIND_BY_SESSION, {"task": task, "key": key})).one()
        return _same(found[0], found[1], task=task, subject=subject, key=key)
    if not_before is None:
        hint_after_commit(session.sync_session, outbox_id)
    return outbox_id


async def enqueue_on(
    connection: Connection,
    *,
    task: str,
    subject: str,
    key: str | None = None,
    not_before: datetime | None = None,
) -> UUID:
    """`enqueue` for a psycopg connection, within its transaction. Gives no hint: the sweeper finds the row."""
    _check(task=task, subject=subject, key=key, not_before=not_before)
    outbox_id = new_id()
    values = {"id": outbox_id, "task": task, "subject": subject, "key": key, "not_before": not_before}
    if await (await connection.execute(_INSERT_BY_CONNECTION, values)).fetchone() is None:
        found = await (await connection.execute(_FIND_BY_CONNECTION, values)).fetchone()
        assert found is not None, "a conflicting row cannot vanish within the statement's transaction"
        return _same(found[0], found[1], task=task, subject=subject, key=key)
    return outbox_id


def _check(*, task: str, subject: str, key: str | None, not_before: datetime | None) -> None:
    for value in (task, subject, key):
        assert value is None or 0 < len(value) <= TEXT_LENGTH_MAX, f"{len(value)} characters in the outbox"
    assert not_before is None or not_before.tzinfo is not None, "not_before is aware"


def _same(found: UUID, its_subject: str, *, task: str, subject: str, key: str | None) -> UUID:
    if its_subject != subject:
        raise Conflict(
            f"key {key!r} of {task} stands for {its_subject!r}, not {subject!r}; use a key of its own",
            param="key",
        )
    return found
