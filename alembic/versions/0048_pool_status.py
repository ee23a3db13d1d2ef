"""A pool has one controller at a time, which reports what is there. The SQL is `0048_pool_status.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0048"
down_revision: str | Sequence[str] | None = "0047"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0048_pool_status.sql")


def downgrade() -> None:
    run("0048_pool_status_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
