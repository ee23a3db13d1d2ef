"""Members: invitations, looks of support, projects that are over. The SQL is `0027_members.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0027"
down_revision: str | Sequence[str] | None = "0026"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0027_members.sql")


def downgrade() -> None:
    run("0027_members_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
