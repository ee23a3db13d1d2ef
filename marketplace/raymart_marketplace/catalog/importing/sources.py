"""Where models come from. A source lists files and brings one at a time to this machine, going on where it was cut off."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raymart_core.errors import InvalidRequest, NotFound

Advance = Callable[[int], None]
"""Told of each piece that has arrived, in bytes."""
FILES_LISTED_MAX = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file as its source lists it."""

    path: str
    size_bytes: int
    version: str
    """Changes when the file does: an ETag, a commit, a time of change."""
    sha256: str | None = None
    """Where the source knows it; checked when the file is here."""


class Source(Protocol):
    """A place that holds one model's files."""

    @property
    def name(self) -> str:
        """What it is, for people and for finding an import again that was cut off."""

    async def files(self) -> Sequence[SourceFile]:
        """What lies there. Raises: NotFound, Unavailable, InvalidRequest."""

    async def bring(self, file: SourceFile, partial: Path, advance: Advance) -> Path:
        """The file on this machine: where it is, or `partial`, going on with what of it is there already.

        Raises: NotFound, Unavailable when the source goes away, Conflict when it has changed meanwhile.
        """

    async def close(self) -> None:
        """Give connections back."""


class FolderSource:
    """A folder of this machine, or one file: a GGUF. Links that lead out of the folder are refused."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Its absolute path."""
        return str(self._path.absolute())

    async def files(self) -> Sequence[SourceFile]:
        """Raises: NotFound, InvalidRequest."""
        return await asyncio.to_thread(self._list)

    async def bring(self, file: SourceFile, partial: Path, advance: Advance) -> Path:
        """It is here already."""
        advance(file.size_bytes)
        is_folder = await asyncio.to_thread(self._path.is_dir)
        return self._path / file.path if is_folder else self._path

    async def close(self) -> None:
        """Nothing is held."""

    def _list(self) -> Sequence[SourceFile]:
        root = self._path
        if not root.exists():
            raise NotFound(f"there is no folder or file {str(root)!r}")
        if not root.is_dir():
            return [_local(root, root.name)]
        real = root.resolve()
        found = []
        for folder, _, names in os.walk(root):
            for name in names:
                path = Path(folder) / name
                # A hub's cache links to files beside it; a link elsewhere could name any file of this machine.
                if not path.resolve().is_relative_to(real):
                    raise InvalidRequest(f"{str(path)!r} leads out of the folder to {str(path.resolve())!r}")
                if not path.is_file():
                    continue
                found.append(_local(path, path.relative_to(root).as_posix()))
                if len(found) > FILES_LISTED_MAX:
                    raise InvalidRequest(
                        f"more than {FILES_LISTED_MAX} files in {str(root)!r}; name the model's own folder"
                    )
        return found


def _local(path: Path, name: str) -> SourceFile:
    status = path.stat()
    return SourceFile(
        path=name, size_bytes=status.st_size, version=f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    )
