"""Settings of commands that need only the database, and where those of a stack on this machine are."""

import os
import stat
from pathlib import Path

from pydantic import Field

from raymart_core.settings import ProcessSettings
from raymart_marketplace.db.scripts import REPOSITORY_SCRIPTS


class DatabaseSettings(ProcessSettings):
    """Read once by the command."""

    database_url: str = Field(validation_alias="DATABASE_URL", pattern=r"^postgres(ql)?(\+psycopg)?://")
    """postgresql://user:password@host:port/database, as a role that is a member of `raymart_runtime`."""
    migration_database_url: str | None = Field(
        default=None, validation_alias="MIGRATION_DATABASE_URL", pattern=r"^postgres(ql)?(\+psycopg)?://"
    )
    """The same database as its owner, for migrations; without one DATABASE_URL is used."""
    migrations_dir: Path = REPOSITORY_SCRIPTS
    """The alembic folder; a system installed without the repository names where it deploys it."""

    @property
    def owner_url(self) -> str:
        """Where migrations run."""
        return self.migration_database_url or self.database_url


class StackSettings(ProcessSettings):
    """Finds the settings of a stack that `raymart up` runs on this machine, for who names no database."""

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    data_dir: Path = Path("var")
    """As `raymart up` has it."""

    @property
    def file(self) -> Path | None:
        """The running stack's settings; None where a database is named, or no stack runs that is this user's."""
        path = self.data_dir / "operator.env"
        if self.database_url is not None or not path.is_file():
            return None
        status = path.stat()
        # Whoever could write it could let an operator act on another database than they think.
        is_own = status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o077
        return path if is_own else None
