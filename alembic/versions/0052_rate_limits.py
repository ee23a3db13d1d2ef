"""Limits of requests, tokens and concurrency. The SQL is `0052_rate_limits.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0052"
down_revision: str | Sequence[str] | None = "0051"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0052_rate_limits.sql")


def downgrade() -> None:
    run("0052_rate_limits_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
