"""Codes and their accounts, reversals, snapshots and seals of the ledger. Its SQL is `0010_proofs.sql`.

Adding `transfer.xact_id` rewrites nothing: rows that exist get the migration's own transaction.
"""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0010"
down_revision: str | Sequence[str] | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0010_proofs.sql")


def downgrade() -> None:
    run("0010_proofs_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
