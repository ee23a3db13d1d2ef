"""What a provider says that becomes of prompts and answers."""

from collections.abc import Sequence

from alembic import op

revision: str = "0046"
down_revision: str | Sequence[str] | None = "0045"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Who has said nothing yet has promised nothing.
    op.execute("""
        alter table provider
            add column data_policy varchar(32) not null default 'unstated',
            add constraint ck_provider_datapolicy check (data_policy in ('unstated', 'no_retention'))
    """)


def downgrade() -> None:
    op.execute("alter table provider drop column data_policy")
