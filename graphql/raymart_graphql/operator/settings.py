"""Settings of commands that need only the database."""

from pathlib import Path

from pydantic import Field

from raymart_core.settings import ProcessSettings
from raymart_marketplace.db.migrate import REPOSITORY_SCRIPTS


class DatabaseSettings(ProcessSettings):
    """Read once by the command."""

    database_url: str = Field(validation_alias="DATABASE_URL", pattern=r"^postgres(ql)?(\+psycopg)?://")
    """postgresql://user:password@host:port/database."""
    migrations_dir: Path = REPOSITORY_SCRIPTS
    """The alembic folder; a system installed without the repository names where it deploys it."""
