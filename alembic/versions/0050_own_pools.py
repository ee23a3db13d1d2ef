"""Providers make pools of their own. The SQL is `0050_own_pools.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0050"
down_revision: str | Sequence[str] | None = "0049"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0050_own_pools.sql")


def downgrade() -> None:
    run("0050_own_pools_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
