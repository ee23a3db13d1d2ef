"""Tables of background work. Workers write them by the statements in `claims.py` and `periodics.py`."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Sequence, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Base, Row, text_enum

WORKER_NUMBERS = Sequence(
    "work_worker_number", metadata=Base.metadata, start=1, maxvalue=2_147_483_647, cycle=True
)
"""Numbers of worker processes; a living one holds the advisory lock on its number."""


class WorkState(StrEnum):
    """Where an outbox row stands."""

    READY = "ready"
    """Waits until it is due."""
    RUNNING = "running"
    """A worker has it, until its lease ends."""
    DONE = "done"
    DEAD = "dead"
    """Given up after its last attempt; an operator can retry or cancel it."""
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """How one run of a task or a periodic went."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    """Its worker died, or lost its lease."""


class WorkActionKind(StrEnum):
    """What a person did to an outbox row."""

    RETRY = "retry"
    CANCEL = "cancel"


class OutboxItem(Row):
    """One effect that was asked for, and how far it is."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("task", "key"),
        CheckConstraint(
            "(state = 'running') = (locked_by is not null) and (locked_by is null) = (locked_until is null)",
            name="running_is_leased",
        ),
        CheckConstraint(
            "(state in ('done', 'dead', 'cancelled')) = (finished_at is not null)", name="ended_has_time"
        ),
        CheckConstraint("attempts >= 0 and fence >= 0", name="counts_not_negative"),
        CheckConstraint(
            "length(task) between 1 and 200 and length(subject) between 1 and 200 and length(key) between 1 and 200",
            name="texts_are_short",
        ),
        Index("ix_outbox_due", "due_at", postgresql_where=text("state = 'ready'")),
        Index("ix_outbox_running", "locked_until", postgresql_where=text("state = 'running'")),
        Index("ix_outbox_ended", "finished_at", postgresql_where=text("finished_at is not null")),
        Index("ix_outbox_state_id", "state", "id"),
        Index("ix_outbox_task_id", "task", "id"),
    )

    task: Mapped[str]
    subject: Mapped[str]
    key: Mapped[str | None]
    state: Mapped[WorkState] = mapped_column(text_enum(WorkState), server_default=WorkState.READY.value)
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    """Runs begun since it was made or last retried by hand."""
    due_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    locked_by: Mapped[int | None]
    """Number of the worker."""
    locked_until: Mapped[datetime | None]
    last_error: Mapped[str | None]
    finished_at: Mapped[datetime | None]


class InboxMessage(Base):
    """A message of someone else that has taken effect."""

    __tablename__ = "inbox"
    __table_args__ = (Index("ix_inbox_received_at", "received_at"),)

    source: Mapped[str] = mapped_column(primary_key=True)
    message_id: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class TaskRun(Row):
    """One run of a task or, without `outbox_id`, of a periodic; `created_at` is its start."""

    __tablename__ = "task_run"
    __table_args__ = (
        CheckConstraint("(state = 'running') = (finished_at is null)", name="ended_has_time"),
        CheckConstraint("attempt >= 1 and fence >= 1", name="counts_positive"),
        Index("ix_task_run_name_id", "name", "id"),
        Index("ix_task_run_state_id", "state", "id"),
        Index("ix_task_run_finished_at", "finished_at"),
    )

    outbox_id: Mapped[UUID | None] = mapped_column(ForeignKey("outbox.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    subject: Mapped[str]
    """Empty for a periodic."""
    attempt: Mapped[int]
    fence: Mapped[int] = mapped_column(BigInteger)
    worker: Mapped[int]
    state: Mapped[RunState] = mapped_column(text_enum(RunState), server_default=RunState.RUNNING.value)
    error: Mapped[str | None]
    finished_at: Mapped[datetime | None]


class PeriodicJob(Base):
    """When a periodic ran, and when it is due."""

    __tablename__ = "periodic_job"
    __table_args__ = (
        CheckConstraint("every_s > 0", name="every_positive"),
        CheckConstraint("runs >= 0 and fence >= 0 and failures_in_a_row >= 0", name="counts_not_negative"),
        CheckConstraint("(locked_by is null) = (locked_until is null)", name="leased_by_someone"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    every_s: Mapped[float]
    next_due_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    locked_by: Mapped[int | None]
    locked_until: Mapped[datetime | None]
    last_started_at: Mapped[datetime | None]
    last_finished_at: Mapped[datetime | None]
    last_state: Mapped[RunState | None] = mapped_column(text_enum(RunState))
    last_error: Mapped[str | None]
    """Of the last run that failed; none after one that was done."""
    runs: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    failures_in_a_row: Mapped[int] = mapped_column(server_default=text("0"))


class WorkAction(Row):
    """What a person did to an outbox row, and why. Rows are only added."""

    __tablename__ = "work_action"

    outbox_id: Mapped[UUID] = mapped_column(index=True)
    """Without a foreign key: it outlives the row."""
    action: Mapped[WorkActionKind] = mapped_column(text_enum(WorkActionKind))
    actor_id: Mapped[UUID | None]
    """None for the operator on the machine."""
    reason: Mapped[str]
