"""House pools have an authority, and certificates for their machines. The SQL is `0043_pool_membership.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0043"
down_revision: str | Sequence[str] | None = "0042"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0043_pool_membership.sql")


def downgrade() -> None:
    run("0043_pool_membership_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
