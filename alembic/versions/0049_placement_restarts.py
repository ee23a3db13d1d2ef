"""Placements know how many of their replicas died. The SQL is `0049_placement_restarts.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0049"
down_revision: str | Sequence[str] | None = "0048"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0049_placement_restarts.sql")


def downgrade() -> None:
    run("0049_placement_restarts_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
