"""Roles: the runtime may not rewrite what it writes. The SQL is `0011_roles.sql`.

A migration after this one that adds a table which only functions write must revoke its writing from `raymart_runtime`,
and one that adds a SECURITY DEFINER function must grant it or leave it internal; `tests/migrations/test_roles.py` asks.
"""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0011"
down_revision: str | Sequence[str] | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0011_roles.sql")


def downgrade() -> None:
    run("0011_roles_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
