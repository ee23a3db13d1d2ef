"""The audit log: entries, where each came from, and the seals over them. Its SQL is `0019_audit.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0019"
down_revision: str | Sequence[str] | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0019_audit.sql")


def downgrade() -> None:
    run("0019_audit_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
