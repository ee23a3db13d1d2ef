"""Hints: after a commit, a worker is told which row to look at. Losing one costs a few seconds, never the work."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.orm import Session

from raymart_marketplace.db.session import Sessions

_GIVE, _WAITING = "raymart.work.give_hint", "raymart.work.hints_waiting"
GiveHint = Callable[[UUID], None]
"""Takes an outbox row's id; must return at once and never raise."""


def give_hints(sessions: Sessions, give: GiveHint) -> None:
    """Let sessions made by `sessions` from now on `give` a hint for each row they enqueue, once it is committed."""
    sessions.configure(info={_GIVE: give})


def hint_after_commit(session: Session, outbox_id: UUID) -> None:
    """Give a hint for `outbox_id` when the transaction of `session` is committed; nothing without `give_hints`."""
    if _GIVE not in session.info:
        return
    if _WAITING not in session.info:
        session.info[_WAITING] = []
        event.listen(session, "after_commit", _after_commit)
        event.listen(session, "after_rollback", _after_rollback)
    session.info[_WAITING].append(outbox_id)


def _after_commit(session: Session) -> None:
    # Also called when a savepoint is released; a worker sees the rows only after the outermost commit.
    if session.in_nested_transaction():
        return
    give: GiveHint = session.info[_GIVE]
    waiting: list[UUID] = session.info[_WAITING]
    for outbox_id in waiting:
        give(outbox_id)
    waiting.clear()


def _after_rollback(session: Session) -> None:
    session.info[_WAITING].clear()
