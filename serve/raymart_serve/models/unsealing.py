"""Sealed weights in clear: only in a private folder that goes with the replica, and nowhere if it cannot be made.

The data keys come from the agent for this one load and are not kept. The folder holds a lock while the replica lives;
what a killed replica leaves is swept when the agent starts (`cache.sweep_unsealed`).
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import structlog

from raymart_core.wire.manifest import ManifestFile
from raymart_core.wire.sealed import HEADER_BYTES, ArtifactKey, read_header
from raymart_serve.models.cache import CachedRevision, StoredFile
from raymart_serve.models.weights import WeightsUnavailable

log = structlog.get_logger()

_READ_BYTES = 1024 * 1024
_THREADS = min(4, os.cpu_count() or 1)


@contextlib.contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """An empty folder that nobody else may enter, deleted with all that is in it when this is left."""
    folder = parent / secrets.token_hex(8)
    folder.mkdir(mode=0o700, parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            (folder / "files").mkdir(mode=0o700)
            yield folder / "files"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def unseal(cached: CachedRevision, data_keys: Mapping[str, bytes], into: Path) -> str | None:
    """Put all files of the revision into the folder: the sealed ones opened and checked, the others as links.

    Blocking. Returns the path of a damaged one, or None. Raises: WeightsUnavailable without a key or without room.
    """
    sealed = [
        (described, stored)
        for described, stored in zip(cached.manifest.files, cached.stored, strict=True)
        if stored.sealed
    ]
    _check_room(into, sum(described.bytes for described, _ in sealed))
    for stored in cached.stored:
        path = into / stored.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not stored.sealed:
            path.symlink_to((cached.files / stored.path).resolve())

    def is_right(pair: tuple[ManifestFile, StoredFile]) -> bool:
        described, stored = pair
        if described.path not in data_keys:
            raise WeightsUnavailable(
                f"{described.path!r} of {cached.digest} is sealed and there is no key for it"
            )
        return open_sealed(cached.blob(stored), data_keys[described.path], described, into / described.path)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="unseal") as threads:
        right = threads.map(is_right, sealed)
        return next((pair[0].path for pair, good in zip(sealed, right, strict=True) if not good), None)


def open_sealed(blob: Path, data_key: bytes, described: ManifestFile, target: Path) -> bool:
    """Write the plain file of a sealed one to `target`, for its owner alone; whether it is what `described` says."""
    digest = hashlib.sha256()
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with blob.open("rb") as stored, os.fdopen(descriptor, "wb") as plain:
            layout = read_header(stored.read(HEADER_BYTES))
            for chunk in ArtifactKey(data_key, layout).open_all(_pieces(stored)):
                digest.update(chunk)
                plain.write(chunk)
    except ValueError as error:
        log.warning("artifact.not_opened", path=described.path, reason=str(error))
        return False
    return digest.hexdigest() == described.sha256


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_READ_BYTES):
        yield piece


def _check_room(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise WeightsUnavailable(
            f"{needed_bytes} bytes of unsealed weights do not fit into {folder.parent.parent}, which has "
            f"{free_bytes} free; set RAYMART_UNSEALED_DIR to a place with room"
        )
