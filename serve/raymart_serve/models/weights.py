"""From a revision's source to a file on this machine whose digest has been checked."""

import hashlib
from pathlib import Path

from raymart_core.errors import RaymartError

_BUNDLED = Path(__file__).parent / "bundled"


class WeightsUnavailable(RaymartError):
    """The weights are not here, or are not the ones that the revision names."""


def resolve(source: str, sha256: str) -> Path:
    """The file behind `source`, whose SHA-256 is `sha256` (64 lower-case hex digits).

    The digest is computed at every call: a replica must never answer for a revision with other weights. Blocking.
    Source forms: "bundled:<file>", a file shipped inside this package.

    Raises: WeightsUnavailable.
    """
    path = _located(source)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsUnavailable(
            f"{source!r} has SHA-256 {found}, the revision names {sha256!r}; "
            "install the package version that ships this revision, or publish a revision for this file"
        )
    return path


def _located(source: str) -> Path:
    scheme, separator, name = source.partition(":")
    if not separator or scheme != "bundled":
        raise WeightsUnavailable(f"source {source!r} has no known form; known is 'bundled:<file>'")
    path = _BUNDLED / name
    if path.parent != _BUNDLED or path.suffix != ".gguf" or not path.is_file():
        known = ", ".join(sorted(file.name for file in _BUNDLED.glob("*.gguf")))
        raise WeightsUnavailable(f"{source!r} is not bundled with raymart-serve; bundled are {known}")
    return path
