"""Where root keeps the clusters of data directories that only root can walk to.

PostgreSQL refuses to run as root, and `nobody` cannot reach a cluster below a private home. Opening such parents to
everybody is not ours to do, so the cluster moves instead.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

ROOT_HOME = Path("/var/lib/raymart")
"""What `nobody` must reach: copies of the programs, and clusters of private data directories."""


def is_reachable(path: Path) -> bool:
    """Whether any account may walk to `path`: it and all its parents let others pass."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents))


def distant_home(data_dir: Path) -> Path:
    """A new, empty home for the cluster of `data_dir`, always at the same place.

    What lies there belongs to a deleted data directory of the same name; it is set aside, the last one is kept.
    Homes of temporary data directories that are gone (test runs) are deleted.
    """
    homes = ROOT_HOME / "clusters"
    homes.mkdir(parents=True, exist_ok=True)
    _forget_temporary(homes)
    home = homes / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    if home.exists():
        set_aside = home.with_suffix(".previous")
        shutil.rmtree(set_aside, ignore_errors=True)
        home.rename(set_aside)
    home.mkdir()
    # Whatever the umask: `nobody` must walk here, and its cluster below is closed to all others.
    for folder in (ROOT_HOME, homes, home):
        folder.chmod(0o755)
    (home / "data-dir").write_text(f"{data_dir}\n")
    return home


def _forget_temporary(homes: Path) -> None:
    for note in homes.glob("*/data-dir"):
        data_dir = Path(note.read_text().strip())
        if data_dir.is_relative_to(tempfile.gettempdir()) and not data_dir.exists():
            shutil.rmtree(note.parent, ignore_errors=True)
