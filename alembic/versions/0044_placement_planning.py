"""Placements are planned: providers' choices, reservations, and why not. The SQL is `0044_placement_planning.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0044"
down_revision: str | Sequence[str] | None = "0043"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0044_placement_planning.sql")


def downgrade() -> None:
    run("0044_placement_planning_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
