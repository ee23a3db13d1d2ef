"""`raymart work`: background work, its runs, and what to do about it."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.celery_app import make_registry
from raymart_billing.work.actions import cancel_work, retry_work
from raymart_billing.work.models import OutboxItem, PeriodicJob, RunState, TaskRun, WorkState
from raymart_billing.work.process import WorkProcess
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix, parse, show
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.accounts.service import user_by_email
from raymart_marketplace.db.session import Sessions, session_scope

LIMIT_MAX = 1_000
"""Rows that a listing prints."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
LimitOption = Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="Newest rows to list.")]
IdArgument = Annotated[str, typer.Argument(help="Such as work_0199...")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept with the change.")]
ActorOption = Annotated[str | None, typer.Option(help="E-mail address of who decided; else the operator.")]
Act = Callable[..., Coroutine[Any, Any, OutboxItem]]

work = typer.Typer(no_args_is_help=True)


@work.command("list")
def work_list(
    output: OutputOption = Output.TABLE,
    limit: LimitOption = 50,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    state: Annotated[WorkState | None, typer.Option(help="Only in this state.")] = None,
) -> None:
    """List work that was asked for, newest first."""
    statement = select(OutboxItem).order_by(OutboxItem.id.desc()).limit(limit)
    if task is not None:
        statement = statement.where(OutboxItem.task == task)
    if state is not None:
        statement = statement.where(OutboxItem.state == state)

    def shown(row: OutboxItem) -> dict[str, object]:
        return {
            "id": show(Prefix.WORK, row.id),
            "task": row.task,
            "subject": row.subject,
            "state": row.state.value,
            "attempts": row.attempts,
            "due_at": row.due_at,
            "finished_at": row.finished_at,
            "last_error": row.last_error,
        }

    columns = ("id", "task", "subject", "state", "attempts", "due_at", "finished_at", "last_error")
    print_rows([shown(row) for row in _fetched(statement)], columns=columns, output=output)


@work.command("runs")
def work_runs(
    output: OutputOption = Output.TABLE,
    limit: LimitOption = 50,
    name: Annotated[str | None, typer.Option(help="Only of this task or periodic.")] = None,
    state: Annotated[RunState | None, typer.Option(help="Only those that went so.")] = None,
) -> None:
    """List runs, newest first."""
    statement = select(TaskRun).order_by(TaskRun.id.desc()).limit(limit)
    if name is not None:
        statement = statement.where(TaskRun.name == name)
    if state is not None:
        statement = statement.where(TaskRun.state == state)

    def shown(row: TaskRun) -> dict[str, object]:
        return {
            "id": show(Prefix.TASK_RUN, row.id),
            "name": row.name,
            "subject": row.subject or None,
            "attempt": row.attempt,
            "state": row.state.value,
            "worker": row.worker,
            "started_at": row.created_at,
            "finished_at": row.finished_at,
            "error": row.error,
        }

    columns = (
        "id", "name", "subject", "attempt", "state", "worker", "started_at", "finished_at", "error"
    )  # fmt: skip
    print_rows([shown(row) for row in _fetched(statement)], columns=columns, output=output)


@work.command("periodics")
def work_periodics(output: OutputOption = Output.TABLE) -> None:
    """List what is due again and again."""
    columns = (
        "name", "every_s", "next_due_at", "last_started_at", "last_finished_at", "last_state", "runs",
        "failures_in_a_row", "last_error",
    )  # fmt: skip
    rows = [
        {column: getattr(row, column) for column in columns}
        for row in _fetched(select(PeriodicJob).order_by(PeriodicJob.name))
    ]
    print_rows(rows, columns=columns, output=output)


@work.command("retry")
def work_retry(item_id: IdArgument, reason: ReasonOption, actor: ActorOption = None) -> None:
    """Let dead, cancelled or waiting work run now."""
    _act(retry_work, item_id, reason=reason, actor=actor)
    typer.echo(f"{item_id} is due now")


@work.command("cancel")
def work_cancel(item_id: IdArgument, reason: ReasonOption, actor: ActorOption = None) -> None:
    """Call off work that is not done; a handler that runs is stopped."""
    _act(cancel_work, item_id, reason=reason, actor=actor)
    typer.echo(f"{item_id} is cancelled")


@work.command("drain")
def work_drain() -> None:
    """Run whatever is due in this process, without Celery or a broker, until nothing is."""
    settings = control_settings()
    process = WorkProcess(settings, make_registry(settings))
    ran = 0
    try:
        while found := process.drain():
            ran += found
    finally:
        process.close()
    typer.echo(f"{ran} runs; nothing more is due")


def _fetched(statement: Select[Any]) -> Sequence[Any]:
    async def fetch(sessions: Sessions) -> Sequence[Any]:
        async with session_scope(sessions) as session:
            return (await session.scalars(statement)).all()

    return with_database(database_settings().database_url, fetch)


def _act(act: Act, item_id: str, *, reason: str, actor: str | None) -> None:
    try:
        outbox_id = parse(Prefix.WORK, item_id)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None

    async def run(sessions: Sessions) -> None:
        async with session_scope(sessions) as session:
            actor_id = await _actor_id(session, actor)
            await act(session, outbox_id=outbox_id, actor_id=actor_id, reason=reason)

    with_database(database_settings().database_url, run)


async def _actor_id(session: AsyncSession, email: str | None) -> UUID | None:
    if email is None:
        return None
    user = await user_by_email(session, email)
    if user is None:
        raise NotFound(f"no user has the address {email!r}")
    return user.id
