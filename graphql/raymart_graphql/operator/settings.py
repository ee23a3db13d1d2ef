"""Settings of commands that need only the database."""

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
