"""Tenants: row-level security. The SQL is `0023_tenants.sql`.

A migration after this one that adds a table calls `tenant_isolate` for it, with nothing but its name when no tenant may
see it; `tests/migrations/test_tenants.py` names the tables that lack it.
"""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0023"
down_revision: str | Sequence[str] | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0023_tenants.sql")


def downgrade() -> None:
    run("0023_tenants_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
