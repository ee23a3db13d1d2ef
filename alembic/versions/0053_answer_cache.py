"""A key's wish to have its answers given again."""

from collections.abc import Sequence

from alembic import op

revision: str = "0053"
down_revision: str | Sequence[str] | None = "0052"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("""
        alter table api_key
            add column answer_cache_s integer not null default 0,
            add constraint ck_api_key_answer_cache_s check (answer_cache_s between 0 and 86400)
    """)


def downgrade() -> None:
    op.execute("alter table api_key drop column answer_cache_s")
