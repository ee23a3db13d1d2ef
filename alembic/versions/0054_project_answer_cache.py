"""A project's wish to have its keys' answers given again; a key that wishes nothing of its own has null now, not 0."""

from collections.abc import Sequence

from alembic import op

revision: str = "0054"
down_revision: str | Sequence[str] | None = "0053"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("""
        alter table project
            add column answer_cache_s integer not null default 0,
            add constraint ck_project_answer_cache_s check (answer_cache_s between 0 and 86400);
        alter table api_key alter column answer_cache_s drop not null, alter column answer_cache_s drop default;
        update api_key set answer_cache_s = null where answer_cache_s = 0;
    """)


def downgrade() -> None:
    op.execute("""
        update api_key set answer_cache_s = 0 where answer_cache_s is null;
        alter table api_key alter column answer_cache_s set default 0, alter column answer_cache_s set not null;
        alter table project drop column answer_cache_s;
    """)
