"""Where the migrations are, and which is the newest. Apart from `migrate`, so that who only asks does not import Alembic."""

import ast
import re
from pathlib import Path

REPOSITORY_SCRIPTS = Path(__file__).parents[3] / "alembic"
"""The repository's `alembic/`: three folders above this package in a checkout."""
_NAMED = re.compile(r"^(down_revision|revision)\b[^=\n]*= *(.+)$", re.MULTILINE)
"""What `script.py.mako` begins a migration with."""


def heads(*, scripts: Path = REPOSITORY_SCRIPTS) -> tuple[str, ...]:
    """The newest revisions, sorted; exactly one, or two people have branched the history.

    Read from the files' text: Alembic would run every migration, after importing four databases' dialects, and what
    serves needs neither. Raises: FileNotFoundError when `scripts` holds no migrations.
    """
    revisions: set[str] = set()
    followed: set[str] = set()
    for file in (scripts / "versions").glob("*.py"):
        said = {name: ast.literal_eval(value) for name, value in _NAMED.findall(file.read_text())}
        revisions.add(said["revision"])
        before = said["down_revision"]
        followed.update([before] if isinstance(before, str) else before or ())
    if not revisions:
        raise FileNotFoundError(
            f"no migrations in {str(scripts)!r}; set RAYMART_MIGRATIONS_DIR to the repository's alembic folder"
        )
    return tuple(sorted(revisions - followed))
