"""Models that make pictures, and models that make vectors of texts. The SQL is `0039_modalities.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0039"
down_revision: str | Sequence[str] | None = "0038"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0039_modalities.sql")


def downgrade() -> None:
    run("0039_modalities_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
