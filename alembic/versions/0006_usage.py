"""Usage by month, checkpoints, rollups. Its SQL is `0006_usage.sql`, the way back `0006_usage_down.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0006_usage.sql")


def downgrade() -> None:
    run("0006_usage_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
