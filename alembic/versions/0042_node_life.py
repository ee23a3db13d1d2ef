"""A node's life: its link, since when it may serve, and its history. The SQL is `0042_node_life.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0042"
down_revision: str | Sequence[str] | None = "0041"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0042_node_life.sql")


def downgrade() -> None:
    run("0042_node_life_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
