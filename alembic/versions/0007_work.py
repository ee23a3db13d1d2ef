"""Outbox, inbox and runs of background work. The function `work_worker_is_alive` looks at the workers' advisory locks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES_IN_ORDER = ("outbox", "inbox", "task_run", "periodic_job", "work_action")
NOW = sa.text("clock_timestamp()")

IS_ALIVE = """
    create function work_worker_is_alive(number integer) returns boolean
    language sql stable strict as $$
        -- A session's advisory lock ends with the session, so with its process, whatever any clock says.
        select exists (
            select from pg_locks
             where locktype = 'advisory' and classid = 2003792491 and objid = number::oid and objsubid = 2 and granted
               and database = (select oid from pg_database where datname = current_database())
        )
    $$
"""
"""2003792491 is "work" in ASCII; `raymart_billing.work.worker` takes the locks of this class."""


def upgrade() -> None:
    op.execute(
        sa.schema.CreateSequence(
            sa.Sequence("work_worker_number", start=1, maxvalue=2_147_483_647, cycle=True)
        )
    )
    op.execute(IS_ALIVE.replace(":", r"\:"))
    _create_outbox()
    _create_inbox()
    _create_task_run()
    _create_periodic_job()
    _create_work_action()


def downgrade() -> None:
    for table in reversed(TABLES_IN_ORDER):
        op.drop_table(table)
    op.execute("drop function work_worker_is_alive")
    op.execute("drop sequence work_worker_number")


def _row() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    )


def _choice(name: str, *members: str) -> sa.Enum:
    return sa.Enum(*members, name=name, native_enum=False, create_constraint=True, length=32)


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        *_row(),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column(
            "state",
            _choice("workstate", "ready", "running", "done", "dead", "cancelled"),
            server_default="ready",
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("locked_by", sa.Integer(), nullable=True),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (locked_by is not null) and (locked_by is null) = (locked_until is null)",
            name=op.f("ck_outbox_running_is_leased"),
        ),
        sa.CheckConstraint(
            "(state in ('done', 'dead', 'cancelled')) = (finished_at is not null)",
            name=op.f("ck_outbox_ended_has_time"),
        ),
        sa.CheckConstraint("attempts >= 0 and fence >= 0", name=op.f("ck_outbox_counts_not_negative")),
        sa.CheckConstraint(
            "length(task) between 1 and 200 and length(subject) between 1 and 200 and length(key) between 1 and 200",
            name=op.f("ck_outbox_texts_are_short"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("task", "key", name=op.f("uq_outbox_task_key")),
    )
    op.create_index("ix_outbox_due", "outbox", ["due_at"], postgresql_where=sa.text("state = 'ready'"))
    op.create_index(
        "ix_outbox_running", "outbox", ["locked_until"], postgresql_where=sa.text("state = 'running'")
    )
    op.create_index(
        "ix_outbox_ended", "outbox", ["finished_at"], postgresql_where=sa.text("finished_at is not null")
    )
    op.create_index("ix_outbox_state_id", "outbox", ["state", "id"])
    op.create_index("ix_outbox_task_id", "outbox", ["task", "id"])


def _create_inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("source", "message_id", name=op.f("pk_inbox")),
    )
    op.create_index("ix_inbox_received_at", "inbox", ["received_at"])


def _create_task_run() -> None:
    op.create_table(
        "task_run",
        *_row(),
        sa.Column("outbox_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            _choice("runstate", "running", "done", "failed", "lost"),
            server_default="running",
            nullable=False,
        ),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (finished_at is null)", name=op.f("ck_task_run_ended_has_time")
        ),
        sa.CheckConstraint("attempt >= 1 and fence >= 1", name=op.f("ck_task_run_counts_positive")),
        sa.ForeignKeyConstraint(
            ["outbox_id"], ["outbox.id"], name=op.f("fk_task_run_outbox_id_outbox"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_run")),
    )
    op.create_index(op.f("ix_task_run_outbox_id"), "task_run", ["outbox_id"])
    op.create_index("ix_task_run_name_id", "task_run", ["name", "id"])
    op.create_index("ix_task_run_state_id", "task_run", ["state", "id"])
    op.create_index("ix_task_run_finished_at", "task_run", ["finished_at"])


def _create_periodic_job() -> None:
    op.create_table(
        "periodic_job",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("every_s", sa.Float(), nullable=False),
        sa.Column("next_due_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("locked_by", sa.Integer(), nullable=True),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_state", _choice("runstate", "running", "done", "failed", "lost"), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("runs", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures_in_a_row", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("every_s > 0", name=op.f("ck_periodic_job_every_positive")),
        sa.CheckConstraint(
            "runs >= 0 and fence >= 0 and failures_in_a_row >= 0",
            name=op.f("ck_periodic_job_counts_not_negative"),
        ),
        sa.CheckConstraint(
            "(locked_by is null) = (locked_until is null)", name=op.f("ck_periodic_job_leased_by_someone")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_periodic_job")),
    )


def _create_work_action() -> None:
    op.create_table(
        "work_action",
        *_row(),
        sa.Column("outbox_id", sa.Uuid(), nullable=False),
        sa.Column("action", _choice("workactionkind", "retry", "cancel"), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_action")),
    )
    op.create_index(op.f("ix_work_action_outbox_id"), "work_action", ["outbox_id"])
