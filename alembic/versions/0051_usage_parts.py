"""A request delivered by several providers has a usage record for each. The SQL is `0051_usage_parts.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0051"
down_revision: str | Sequence[str] | None = "0050"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0051_usage_parts.sql")


def downgrade() -> None:
    run("0051_usage_parts_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
