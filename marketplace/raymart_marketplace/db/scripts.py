"""Where the migrations are. Apart from `migrate`, so that settings can name them without importing Alembic."""

from pathlib import Path

REPOSITORY_SCRIPTS = Path(__file__).parents[3] / "alembic"
"""The repository's `alembic/`: three folders above this package in a checkout."""
