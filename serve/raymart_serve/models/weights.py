"""From a revision's source to files on this machine whose digest has been checked."""

import hashlib
from pathlib import Path

from raymart_core.errors import InvalidRequest, RaymartError
from raymart_core.wire.manifest import FILES_MAX, check_path

_BUNDLED = Path(__file__).parent / "bundled"


class WeightsUnavailable(RaymartError):
    """The weights are not here, or are not the ones that the revision names."""


def resolve(source: str, sha256: str) -> Path:
    """The file or folder behind `source`, whose SHA-256 is `sha256` (64 lower-case hex digits).

    The digest is computed at every call: a replica must never answer for a revision with other weights. Of a folder
    it is `tree_sha256`. Blocking. Source forms: "bundled:<name>", a GGUF file or a folder shipped inside this package.

    Raises: WeightsUnavailable.
    """
    path = _located(source)
    found = tree_sha256(path) if path.is_dir() else _file_sha256(path)
    if found != sha256:
        raise WeightsUnavailable(
            f"{source!r} has SHA-256 {found}, the revision names {sha256!r}; "
            "install the package version that ships this revision, or publish a revision for these files"
        )
    return path


def tree_sha256(folder: Path) -> str:
    """Digest of every file in `folder` and of its path: what `sha256sum` prints for them in order of path, digested.

    By hand: `find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`. Blocking.

    Raises: WeightsUnavailable for a link, a device, a path that no manifest may hold, or too many files.
    """
    lines = [f"{_file_sha256(folder / path)}  {path}\n" for path in _tree(folder)]
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def _tree(folder: Path) -> list[str]:
    paths = []
    for entry in folder.rglob("*"):
        path = entry.relative_to(folder).as_posix()
        if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
            raise WeightsUnavailable(
                f"{path!r} in {folder.name!r} is a link or a device; a model has plain files only"
            )
        if entry.is_file():
            paths.append(path)
    if not 1 <= len(paths) <= FILES_MAX:
        raise WeightsUnavailable(f"{folder.name!r} has {len(paths)} files; a model has 1 to {FILES_MAX}")
    try:
        for path in paths:
            check_path(path)
    except InvalidRequest as error:
        raise WeightsUnavailable(f"{folder.name!r} is no model: {error}") from error
    # All ASCII by now, so this is the order of bytes that `LC_ALL=C sort` has.
    return sorted(paths)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _located(source: str) -> Path:
    scheme, separator, name = source.partition(":")
    if not separator or scheme != "bundled":
        raise WeightsUnavailable(f"source {source!r} has no known form; known is 'bundled:<name>'")
    path = _BUNDLED / name
    if path.parent != _BUNDLED or not (path.is_dir() or (path.suffix == ".gguf" and path.is_file())):
        known = ", ".join(sorted(entry.name for entry in _BUNDLED.iterdir() if entry.name != "README.md"))
        raise WeightsUnavailable(f"{source!r} is not bundled with raymart-serve; bundled are {known}")
    return path
