"""Rate cards, price caps, fee schedules, and asks by unit and window; usage by unit.

The SQL is `0004_prices.sql`, the way back `0004_prices_down.sql`.
"""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run("0004_prices.sql")


def downgrade() -> None:
    run("0004_prices_down.sql")


def run(name: str) -> None:
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute((HERE / name).read_text().replace(":", r"\:"))
