"""Background work as administrators see it."""

from datetime import datetime
from math import ceil
from uuid import UUID

import strawberry

from raymart_billing.work import models
from raymart_billing.work.models import RunState, WorkState
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import expose
from raymart_graphql.fields import resolved
from raymart_graphql.relay import Node, global_id
from raymart_graphql.schema.user_error import Payload

expose(
    WorkState,
    name="WorkState",
    description="Where a piece of background work stands.",
    values={
        "READY": "Waits until it is due.",
        "RUNNING": "A worker has it, until its lease ends.",
        "DONE": "Its effect has happened.",
        "DEAD": "Given up after its last attempt; retry or cancel it.",
        "CANCELLED": "Called off by a person.",
    },
)
expose(
    RunState,
    name="RunState",
    description="How one run went.",
    values={
        "RUNNING": "It is under way.",
        "DONE": "It ended well.",
        "FAILED": "It raised an error.",
        "LOST": "Its worker died or was stopped, or it was cancelled.",
    },
)


@strawberry.type(description="One effect that was asked for, in the transaction that caused it.")
class OutboxItem(Node):
    """Visible to administrators."""

    uuid: strawberry.Private[UUID]
    task: str = strawberry.field(description="What is to be done, such as `invoices.draft`.")
    subject: str = strawberry.field(description="To what: an id.")
    key: str | None = strawberry.field(description="A task is done once for each key.")
    state: WorkState = strawberry.field(description="Where it stands.")
    attempts: int = strawberry.field(description="Runs begun since it was made or last retried by a person.")
    due_at: datetime = strawberry.field(description="When it may run, or could have run since.")
    last_error: str | None = strawberry.field(description="Kind and first line of its last error.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    finished_at: datetime | None = strawberry.field(description="When it was done, given up or called off.")

    @classmethod
    def of(cls, row: models.OutboxItem) -> "OutboxItem":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.WORK, row.id),
            uuid=row.id,
            task=row.task,
            subject=row.subject,
            key=row.key,
            state=row.state,
            attempts=row.attempts,
            due_at=row.due_at,
            last_error=row.last_error,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )

    async def owner(self, _operation: Operation) -> UUID | None:
        """Nobody but the platform sees it."""
        return None


@strawberry.type(description="One run of a piece of background work, or of a periodic job.")
class TaskRun(Node):
    """Visible to administrators."""

    outbox_uuid: strawberry.Private[UUID | None]
    name: str = strawberry.field(description="The task's or the periodic job's name.")
    subject: str = strawberry.field(description="The task's subject; empty for a periodic job.")
    attempt: int = strawberry.field(description="1 for the first run.")
    state: RunState = strawberry.field(description="How it went.")
    error: str | None = strawberry.field(description="Kind and first line of its error.")
    worker: int = strawberry.field(description="Number of the worker process.")
    started_at: datetime = strawberry.field(description="When it began.")
    finished_at: datetime | None = strawberry.field(description="When it ended; null while it runs.")
    duration_ms: int | None = strawberry.field(description="Milliseconds that it took; null while it runs.")

    @classmethod
    def of(cls, row: models.TaskRun) -> "TaskRun":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.TASK_RUN, row.id),
            outbox_uuid=row.outbox_id,
            name=row.name,
            subject=row.subject,
            attempt=row.attempt,
            state=row.state,
            error=row.error,
            worker=row.worker,
            started_at=row.created_at,
            finished_at=row.finished_at,
            duration_ms=None
            if row.finished_at is None
            else round((row.finished_at - row.created_at).total_seconds() * 1_000),
        )

    async def owner(self, _operation: Operation) -> UUID | None:
        """Nobody but the platform sees it."""
        return None

    @resolved("What it was a run of; null for a periodic job.")
    async def item(self, info: Info) -> OutboxItem | None:
        """Its outbox row."""
        return await info.context.loaders.work.item.load(self.outbox_uuid) if self.outbox_uuid else None


@strawberry.type(description="Work that is due again and again, by one worker at a time.")
class PeriodicJob:
    """Visible to administrators."""

    name: str = strawberry.field(description="Its name.")
    every_s: int = strawberry.field(description="Seconds from one due time to the next, rounded up.")
    next_due_at: datetime = strawberry.field(description="When it is due next.")
    is_running: bool = strawberry.field(description="Whether a worker has it now.")
    last_state: RunState | None = strawberry.field(
        description="How its last run went; null before the first."
    )
    last_started_at: datetime | None = strawberry.field(description="When its last run began.")
    last_finished_at: datetime | None = strawberry.field(description="When a run ended last.")
    last_error: str | None = strawberry.field(description="Error of its last run; null if that ended well.")
    failures_in_a_row: int = strawberry.field(description="Runs that failed since the last that ended well.")

    @classmethod
    def of(cls, row: models.PeriodicJob) -> "PeriodicJob":
        """`row` as the API shows it."""
        return cls(
            name=row.name,
            every_s=ceil(row.every_s),
            next_due_at=row.next_due_at,
            is_running=row.locked_by is not None,
            last_state=row.last_state,
            last_started_at=row.last_started_at,
            last_finished_at=row.last_finished_at,
            last_error=row.last_error,
            failures_in_a_row=row.failures_in_a_row,
        )


@strawberry.input(description="Which work to let run again.")
class RetryWorkInput:
    """For work that is dead, called off, or waiting."""

    id: strawberry.ID = strawberry.field(description="The item's id.")
    reason: str = strawberry.field(description="Why; kept with your name.")


@strawberry.type(description="Answer to retryWork.")
class RetryWorkPayload(Payload):
    """The item as it is now."""

    item: OutboxItem | None = strawberry.field(
        default=None, description="The item; null when there are user errors."
    )


@strawberry.input(description="Which work to call off.")
class CancelWorkInput:
    """For work that is not done yet."""

    id: strawberry.ID = strawberry.field(description="The item's id.")
    reason: str = strawberry.field(description="Why; kept with your name.")


@strawberry.type(description="Answer to cancelWork.")
class CancelWorkPayload(Payload):
    """The item as it is now."""

    item: OutboxItem | None = strawberry.field(
        default=None, description="The item; null when there are user errors."
    )
