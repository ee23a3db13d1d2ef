"""Background work and its runs, for administrators."""

from typing import Annotated

import strawberry
from sqlalchemy import ColumnElement

from raymart_billing.work import models
from raymart_billing.work.models import RunState, WorkState
from raymart_graphql.context import Info
from raymart_graphql.fields import listed
from raymart_graphql.keyset import Listing, page_of
from raymart_graphql.relay import Connection, Page
from raymart_graphql.schema.work.types import OutboxItem, PeriodicJob, TaskRun

NameArgument = Annotated[
    str | None, strawberry.argument(description="Only of the task or job with this name.")
]
RunStateArgument = Annotated[RunState | None, strawberry.argument(description="Only those that went so.")]
TaskArgument = Annotated[str | None, strawberry.argument(description="Only of this task.")]
WorkStateArgument = Annotated[WorkState | None, strawberry.argument(description="Only those that stand so.")]
SubjectArgument = Annotated[str | None, strawberry.argument(description="Only with this subject.")]


@strawberry.type
class WorkQuery:
    """Root fields of the domain."""

    @listed("Work that was asked for, newest first. For administrators.")
    async def outbox_items(
        self,
        info: Info,
        page: Page,
        task: TaskArgument = None,
        state: WorkStateArgument = None,
        subject: SubjectArgument = None,
    ) -> Connection[OutboxItem]:
        """Outbox rows."""
        where: list[ColumnElement[bool]] = []
        if task is not None:
            where.append(models.OutboxItem.task == task)
        if state is not None:
            where.append(models.OutboxItem.state == state)
        if subject is not None:
            where.append(models.OutboxItem.subject == subject)
        listing = Listing(
            name="outbox_items",
            entity=models.OutboxItem,
            key=models.OutboxItem.id,
            show=OutboxItem.of,
            newest_first=True,
            where=tuple(where),
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @listed(
        "Runs of background work, newest first: what ran, how often, and how it went. For administrators."
    )
    async def task_runs(
        self, info: Info, page: Page, name: NameArgument = None, state: RunStateArgument = None
    ) -> Connection[TaskRun]:
        """Runs."""
        where: list[ColumnElement[bool]] = []
        if name is not None:
            where.append(models.TaskRun.name == name)
        if state is not None:
            where.append(models.TaskRun.state == state)
        listing = Listing(
            name="task_runs",
            entity=models.TaskRun,
            key=models.TaskRun.id,
            show=TaskRun.of,
            newest_first=True,
            where=tuple(where),
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)

    @listed("Jobs that are due again and again, by name. For administrators.")
    async def periodic_jobs(self, info: Info, page: Page) -> Connection[PeriodicJob]:
        """Periodics."""
        listing = Listing(
            name="periodic_jobs",
            entity=models.PeriodicJob,
            key=models.PeriodicJob.name,
            show=PeriodicJob.of,
        )
        async with info.context.reading.session() as session:
            return await page_of(session, listing, page)
