"""Bring a database to a migration, from a command, a test or a process's start.

These calls block; in a coroutine use `asyncio.to_thread`.
"""

from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from raymart_marketplace.db.scripts import REPOSITORY_SCRIPTS
from raymart_marketplace.db.session import sqlalchemy_url


def config(url: str, *, scripts: Path = REPOSITORY_SCRIPTS) -> Config:
    """Alembic's configuration for the database of `url` (postgresql://...) and the folder `scripts`.

    Raises: FileNotFoundError when `scripts` holds no migrations: a wheel carries none, so an installed system
    names the folder it deploys (setting `migrations_dir`).
    """
    if not (scripts / "env.py").is_file():
        raise FileNotFoundError(
            f"no migrations in {str(scripts)!r}; set RAYMART_MIGRATIONS_DIR to the repository's alembic folder"
        )
    made = Config(stdout=StringIO())
    made.set_main_option("script_location", str(scripts).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    # Not as "sqlalchemy.url": a ConfigParser value would take the % of an encoded password for a reference.
    made.attributes["url"] = url
    return made


def upgrade(url: str, revision: str = "head", *, scripts: Path = REPOSITORY_SCRIPTS) -> None:
    """Apply the migrations up to `revision`; a no-op when they are applied already. Safe to run twice at once."""
    command.upgrade(config(url, scripts=scripts), revision)


def downgrade(url: str, revision: str, *, scripts: Path = REPOSITORY_SCRIPTS) -> None:
    """Take migrations back to `revision` ("base" for all of them). Data in dropped tables is lost."""
    command.downgrade(config(url, scripts=scripts), revision)


def check(url: str, *, scripts: Path = REPOSITORY_SCRIPTS) -> None:
    """Compare the database with the models. Raises: alembic.util.CommandError naming what a migration lacks."""
    command.check(config(url, scripts=scripts))


def current(url: str) -> str | None:
    """The revision that the database is at; None for an empty one."""
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def has_table(url: str, name: str) -> bool:
    """Whether the database has a table `name`."""
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return inspect(connection).has_table(name)
