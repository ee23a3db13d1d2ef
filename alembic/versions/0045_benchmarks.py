"""What machines have, what was measured of them, and how they were doing. The SQL is `0045_benchmarks.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0045"
down_revision: str | Sequence[str] | None = "0044"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0045_benchmarks.sql")


def downgrade() -> None:
    run("0045_benchmarks_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
