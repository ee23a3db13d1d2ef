"""The ledger. Its SQL is a file of its own, `0002_ledger.sql`: tables, guards, balances, and the functions that write.

Hand-written: autogenerate knows neither triggers nor functions. `tests/migrations` compares the tables with the models.
"""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

FUNCTIONS = (
    "ledger_capture_usage",
    "ledger_expire_holds",
    "ledger_void_hold",
    "ledger_void_holds",
    "ledger_post_hold",
    "ledger_hold",
    "ledger_post_batch",
    "ledger_refuse_key",
    "ledger_open_account",
    "ledger_apply",
    "ledger_check_inserted",
    "ledger_lock_accounts",
    "ledger_refuse",
)
"""Each before those that it calls."""


def upgrade() -> None:
    sql = Path(__file__).with_suffix(".sql").read_text()
    # SQLAlchemy would take the colons of casts and keys for its own parameters.
    op.execute(sql.replace(":", r"\:"))


def downgrade() -> None:
    for table in ("open_hold", "transfer", "ledger_account"):
        op.drop_table(table)
    for function in FUNCTIONS:
        op.execute(f"drop function {function}")
