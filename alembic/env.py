"""How alembic runs: one transaction per migration, one runner at a time, never a long wait for a lock.

The database is, in this order: the URL that `raymart_marketplace.db.migrate` hands over, the config's
`sqlalchemy.url`, the environment's DATABASE_URL.
"""

import importlib
import importlib.util
import os

from alembic import context
from alembic.operations import MigrationScript
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, pool, text

from raymart_marketplace.db.metadata import metadata
from raymart_marketplace.db.session import sqlalchemy_url

# Billing's tables join the same metadata on import. The folder is looked up and not imported at the top, so that
# the marketplace can be migrated where billing is not installed.
if importlib.util.find_spec("raymart_billing.db") is not None:
    importlib.import_module("raymart_billing.db")

RUNNER_LOCK = 7_240_001
"""Key of the advisory lock that keeps two runners apart."""
RUNNER_WAIT = "60s"
LOCK_TIMEOUT = "5s"
"""A migration that cannot get a table's lock this soon fails, instead of queueing all traffic behind itself."""


def database_url() -> str:
    """The URL to migrate. Raises: SystemExit when none was given."""
    url = (
        context.config.attributes.get("url")
        or context.config.get_main_option("sqlalchemy.url")
        or os.environ.get("DATABASE_URL")
    )
    if not url:
        raise SystemExit("no database: set DATABASE_URL=postgresql://user:password@host:port/database")
    return sqlalchemy_url(str(url))


def number_revision(_context: object, _revision: object, directives: list[MigrationScript]) -> None:
    """Give a drafted migration the next number as its id ("0003"), so that files sort in their order."""
    head = ScriptDirectory.from_config(context.config).get_current_head()
    for directive in directives:
        directive.rev_id = f"{int(head or 0) + 1:04}"


def migrate(connection: Connection) -> None:
    """Run on `connection`, which is ours alone."""
    connection.execute(text("select set_config('lock_timeout', :wait, false)"), {"wait": RUNNER_WAIT})
    connection.execute(text("select pg_advisory_lock(:key)"), {"key": RUNNER_LOCK})
    connection.execute(text("select set_config('lock_timeout', :wait, false)"), {"wait": LOCK_TIMEOUT})
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
        process_revision_directives=number_revision,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Migrate the database itself; the session's end lets go of the advisory lock."""
    engine = create_engine(database_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        migrate(connection)


def run_offline() -> None:
    """Print the SQL instead (`--sql`)."""
    context.configure(
        url=database_url(), target_metadata=metadata, literal_binds=True, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
