"""The models on this machine: artifacts by digest, revisions made of them, a quota, and what may be thrown away.

    blobs/<sha256>               an artifact as it is stored and sent; read-only
    partial/<sha256>[.pieces]    one that is still arriving
    revisions/<hex>/manifest.json  canonical: its SHA-256 is <hex>
    revisions/<hex>/stored.json    which blob holds which file
    revisions/<hex>/files/...      hard links to the blobs that are not sealed: what an engine loads
    revisions/<hex>/pin            locked (shared) by each process that has the revision loaded; its time is the last use
    unsealed/                      private folders of replicas with sealed revisions

One process, the node agent, writes here and holds `cache.lock`; replicas read and pin. A pin is a lock of the kernel,
so that a killed replica leaves none. Nothing is flushed: every load checks every digest, so what a power failure
damaged is fetched again.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import structlog

from raymart_core.errors import RaymartError
from raymart_core.wire.manifest import Manifest, read_manifest
from raymart_serve.models.weights import WeightsUnavailable

log = structlog.get_logger()

_FREE_BYTES_MIN = 1024**3
"""Left on the disk for everybody else."""
_LOCK_GRACE_S = 60.0


class CacheFull(WeightsUnavailable):
    """What is needed does not fit, whatever may be thrown away."""


class StoredFile(msgspec.Struct, frozen=True):
    """How one file of a revision is kept."""

    path: str
    """As in the manifest."""
    sha256: str
    """Of the stored bytes, hex: the blob's name. The manifest's own digest unless the file is sealed."""
    size: int
    """Of the stored form, in bytes."""
    sealed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedRevision:
    """A revision of which every artifact is here."""

    digest: str
    """"sha256:<hex>"."""
    root: Path
    manifest: Manifest
    stored: tuple[StoredFile, ...]

    @property
    def files(self) -> Path:
        """The tree of the files that are not sealed."""
        return self.root / "files"

    @property
    def pin(self) -> Path:
        """The file that a process locks while it has the revision loaded."""
        return self.root / "pin"

    @property
    def sealed(self) -> bool:
        """Whether a file of it must be unsealed before it can be loaded."""
        return any(file.sealed for file in self.stored)

    def blob(self, file: StoredFile) -> Path:
        """Where the file's stored bytes are."""
        return self.root.parent.parent / "blobs" / file.sha256

    @property
    def stored_bytes(self) -> int:
        """Of all its artifacts."""
        return sum({file.sha256: file.size for file in self.stored}.values())


class ModelCache:
    """The writing side, for one process at a time. All methods block on the disk only; use from one thread."""

    def __init__(self, root: Path, *, quota_bytes: int) -> None:
        assert quota_bytes > 0
        self.root = root
        self.quota_bytes = quota_bytes
        self._blobs = root / "blobs"
        self._partial = root / "partial"
        self._revisions = root / "revisions"
        self.unsealed = root / "unsealed"
        """Where replicas make their private folders."""
        self._lock: IO[str] | None = None
        self._expected: dict[str, int] = {}
        """Artifacts that are being fetched, and their sizes; room is kept for them."""

    def open(self) -> None:
        """Take the folder, and clear away what a killed process left. Raises: WeightsUnavailable when another has it."""
        for folder in (self._blobs, self._partial, self._revisions, self.unsealed):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (self.root / "cache.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise WeightsUnavailable(
                f"another agent uses the model cache {self.root}; give each its own RAYMART_MODEL_CACHE"
            ) from None
        self._lock = lock
        for folder in self._revisions.glob(".*"):
            shutil.rmtree(folder, ignore_errors=True)
        sweep_unsealed(self.unsealed)

    def close(self) -> None:
        """Give the folder up. Safe to call twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def blob(self, sha256: str) -> Path:
        """Where the artifact is or will be."""
        return self._blobs / sha256

    def partial(self, sha256: str) -> Path:
        """Where the artifact arrives."""
        return self._partial / sha256

    def revision(self, digest: str) -> CachedRevision | None:
        """The revision, if every artifact of it is here."""
        root = self._folder(digest)
        found = read_revision(root, digest)
        if found is None or not all(self.blob(file.sha256).exists() for file in found.stored):
            return None
        return found

    def revisions(self) -> Sequence[CachedRevision]:
        """All complete ones, last used first."""
        found = [
            revision
            for folder in self._revisions.iterdir()
            if (revision := self.revision(f"sha256:{folder.name}")) is not None
        ]
        return sorted(found, key=last_used, reverse=True)

    def used_bytes(self) -> int:
        """Of all artifacts, and of those that are arriving, as the disk counts them."""
        return sum(
            os.stat(entry.path).st_blocks * 512
            for folder in (self._blobs, self._partial)
            for entry in os.scandir(folder)
        )

    def make_room(self, needed: Sequence[StoredFile], *, keep: Collection[str]) -> None:
        """Throw away what was used longest ago until `needed` fits, and keep room for it until `settled`.

        What is loaded and the revisions in `keep` (digests) stay. Raises: CacheFull, before a revision is thrown away.
        """
        missing = {file.sha256: file.size for file in needed if not self.blob(file.sha256).exists()}
        self._expected |= missing
        if self._short() > 0:
            self._drop_orphans()
        short = self._short()
        leaving: list[CachedRevision] = []
        held = {file.sha256 for file in needed}
        for revision in reversed(self.revisions()):
            if short <= 0:
                break
            if revision.digest not in keep and not is_pinned(revision):
                leaving.append(revision)
                short -= self._freed_by(revision, leaving, held)
        if short > 0:
            self.settled(needed)
            raise CacheFull(
                f"{sum(missing.values())} bytes of weights do not fit: the cache {self.root} may hold "
                f"{self.quota_bytes}, {self.used_bytes()} are used, and too little of it is idle; raise "
                "RAYMART_MODEL_CACHE_BYTES, free disk space, or place fewer models on this node"
            )
        for revision in leaving:
            self.drop(revision)

    def settled(self, needed: Sequence[StoredFile]) -> None:
        """These have arrived, or will not."""
        for file in needed:
            self._expected.pop(file.sha256, None)

    def complete(self, manifest: Manifest, stored: Sequence[StoredFile]) -> CachedRevision:
        """All artifacts have arrived: make the revision's folder, in one step."""
        digest = manifest.digest()
        target = self._folder(digest)
        scratch = self._revisions / f".{target.name}.{secrets.token_hex(4)}"
        scratch.mkdir(mode=0o700)
        (scratch / "manifest.json").write_bytes(manifest.canonical())
        (scratch / "stored.json").write_bytes(msgspec.json.encode(tuple(stored)))
        (scratch / "pin").touch(mode=0o600)
        (scratch / "files").mkdir(mode=0o700)
        for file in stored:
            if not file.sealed:
                path = scratch / "files" / file.path
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.hardlink_to(self.blob(file.sha256))
        self._remove_folder(target)
        scratch.replace(target)
        found = self.revision(digest)
        assert found is not None
        return found

    def touch(self, revision: CachedRevision) -> None:
        """It is used now."""
        os.utime(revision.pin)

    def damaged(self, sha256: str) -> None:
        """The artifact is not what its name says: it goes, and every revision made of it is incomplete."""
        self.blob(sha256).unlink(missing_ok=True)

    def drop(self, revision: CachedRevision) -> None:
        """Throw a revision away, with the artifacts that no other has."""
        self._remove_folder(revision.root)
        used = self._used_blobs()
        for file in revision.stored:
            if file.sha256 not in used and file.sha256 not in self._expected:
                self.blob(file.sha256).unlink(missing_ok=True)
        log.info("model.dropped", revision=revision.digest)

    def _folder(self, digest: str) -> Path:
        return self._revisions / digest.removeprefix("sha256:")

    def _short(self) -> int:
        """Bytes that must go before all that is expected fits: into the quota, and onto the disk."""
        to_come = sum(
            max(0, size - _disk_bytes(self.partial(sha256)))
            for sha256, size in self._expected.items()
            if not self.blob(sha256).exists()
        )
        over_quota = self.used_bytes() + to_come - self.quota_bytes
        over_disk = to_come + _FREE_BYTES_MIN - shutil.disk_usage(self.root).free if to_come else 0
        return max(over_quota, over_disk)

    def _freed_by(
        self, revision: CachedRevision, leaving: Sequence[CachedRevision], held: Collection[str]
    ) -> int:
        """Bytes that only `revision` keeps, once all of `leaving` are gone."""
        gone = {gone.digest for gone in leaving}
        stays = {
            file.sha256 for other in self.revisions() if other.digest not in gone for file in other.stored
        }
        mine = {file.sha256 for file in revision.stored} - stays - set(held)
        return sum(_disk_bytes(self.blob(sha256)) for sha256 in mine)

    def _remove_folder(self, folder: Path) -> None:
        """In two steps, so that nobody finds half a revision."""
        scratch = self._revisions / f".gone.{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            folder.replace(scratch)
            shutil.rmtree(scratch)

    def _drop_orphans(self) -> None:
        """Delete artifacts and partial files of no revision, unless they are expected."""
        keep = self._used_blobs() | self._expected.keys()
        for folder in (self._blobs, self._partial):
            for entry in os.scandir(folder):
                if entry.name.removesuffix(".pieces") not in keep:
                    os.unlink(entry.path)

    def _used_blobs(self) -> set[str]:
        """Of every revision, those included that lack an artifact."""
        return {
            file.sha256
            for folder in self._revisions.iterdir()
            if (found := read_revision(folder, f"sha256:{folder.name}")) is not None
            for file in found.stored
        }


def read_revision(root: Path, digest: str) -> CachedRevision | None:
    """What `root` says of the revision `digest`; None when it is not there or is not what it must be."""
    try:
        manifest = read_manifest((root / "manifest.json").read_bytes(), digest=digest)
        stored = msgspec.json.decode((root / "stored.json").read_bytes(), type=tuple[StoredFile, ...])
    except FileNotFoundError:
        return None
    except (RaymartError, ValueError, OSError) as error:
        log.warning("model.unreadable", revision=digest, reason=str(error)[:200])
        return None
    if [file.path for file in stored] != [file.path for file in manifest.files]:
        return None
    return CachedRevision(digest=digest, root=root, manifest=manifest, stored=stored)


def last_used(revision: CachedRevision) -> int:
    """Nanoseconds since the epoch; 0 when it has just gone."""
    try:
        return revision.pin.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def pinned(revision: CachedRevision) -> Iterator[None]:
    """Keep the revision from being thrown away. Raises: FileNotFoundError when it is gone already."""
    with revision.pin.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        # Between opening and locking the folder may have been taken away; then this locks a file of nobody.
        if os.fstat(file.fileno()).st_ino != revision.pin.stat().st_ino:
            raise FileNotFoundError(revision.pin)
        yield


def is_pinned(revision: CachedRevision) -> bool:
    """Whether a process has the revision loaded."""
    try:
        file = revision.pin.open("rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def sweep_unsealed(folder: Path) -> None:
    """Delete the private folders whose replica is gone: nobody holds their lock."""
    for entry in folder.iterdir():
        try:
            lock = (entry / "lock").open("rb")
        except FileNotFoundError:
            # A replica that begins at this moment has not come to its lock yet.
            if time.time() - entry.stat().st_mtime > _LOCK_GRACE_S:
                shutil.rmtree(entry, ignore_errors=True)
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(entry, ignore_errors=True)


def _disk_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
