"""Invoices, credit notes and refunds. Its SQL is `0008_invoices.sql`, the way back `0008_invoices_down.sql`."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0008_invoices.sql")


def downgrade() -> None:
    run("0008_invoices_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
