"""Bring one revision into the cache: grants, room, every artifact, and the folder that makes it whole."""

import asyncio
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import structlog

from raymart_core.wire.link import ARTIFACT_PATH, FileGrant, PeerGrant
from raymart_providers.model_cache.asker import GrantAsker, Grants
from raymart_serve.models.agent_api import ModelState, StreamFile, StreamSource
from raymart_serve.models.cache import CachedRevision, ModelCache, StoredFile
from raymart_serve.models.fetch import Artifact, FetchFailed, FetchLimits, fetch
from raymart_serve.models.range_source import RangeSource

log = structlog.get_logger()

_RENEWALS_MAX = 5
"""Times that fresh permissions are asked for within one fetch."""


@dataclass(slots=True, kw_only=True, eq=False)
class Progress:
    """How far a fetch is, for those who ask."""

    bytes_total: int = 0
    bytes_here: int = 0
    waits_for: str = ""
    data_keys: dict[str, bytes] = field(default_factory=dict, repr=False)
    """By path, of sealed files; known once the marketplace has granted them."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def percent(self) -> int:
        """0 to 100."""
        return 100 * self.bytes_here // self.bytes_total if self.bytes_total else 0

    def add(self, count: int) -> None:
        """So many more bytes are here; from any thread."""
        with self.lock:
            self.bytes_here += count


class Fetcher:
    """Fetches revisions into one cache. `disk` is the one thread that the cache is used from."""

    def __init__(
        self,
        cache: ModelCache,
        asker: GrantAsker,
        disk: ThreadPoolExecutor,
        *,
        plaintext: bool,
        limits: FetchLimits | None = None,
    ) -> None:
        self._cache = cache
        self._asker = asker
        self._disk = disk
        self._plaintext = plaintext
        self._limits = limits or FetchLimits()
        self._transfers = ThreadPoolExecutor(2, thread_name_prefix="transfer")
        self._arriving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By stored digest: revisions share artifacts, and only one transfer may write one."""

    async def bring(self, revision: str, progress: Progress, *, keep: Callable[[], Collection[str]]) -> None:
        """Have every artifact of `revision` here, then the revision. `keep` names what must stay for it.

        Raises: NoGrants, FetchFailed, CacheFull, OSError.
        """
        grants = await self._asker.ask(revision)
        stored = tuple(_stored(file) for file in grants.files)
        await self._on_disk(lambda: self._cache.make_room(stored, keep={revision, *keep()}))
        try:
            await self._bring_all(revision, grants, progress)
            await self._on_disk(lambda: self._cache.complete(grants.manifest, stored))
        finally:
            await self._on_disk(lambda: self._cache.settled(stored))
        progress.data_keys = data_keys(grants)

    async def streamed(self, revision: str, private: Path) -> ModelState:
        """What a replica needs to fetch `revision` by itself into a folder below `private`. Raises: NoGrants."""
        grants = await self._asker.ask(revision)
        return ModelState(
            state="stream",
            private=str(private),
            data_keys=data_keys(grants),
            manifest=grants.manifest.canonical(),
            files=tuple(
                StreamFile(
                    path=file.path,
                    stored_sha256=file.stored_sha256,
                    stored_size=file.stored_size,
                    sources=tuple(
                        StreamSource(kind=source.kind, url=source.url, token=source.token)
                        for source in self._sources(file, grants.peers)
                    ),
                )
                for file in grants.files
            ),
        )

    def close(self) -> None:
        """Free the threads; a transfer that runs must have been cancelled."""
        self._transfers.shutdown(wait=True)

    async def _bring_all(self, revision: str, grants: Grants, progress: Progress) -> None:
        """Largest first; fresh grants when a permission has expired on the way."""
        missing = {file.stored_sha256: file for file in grants.files if not self._is_here(file)}
        progress.bytes_total = sum(file.stored_size for file in missing.values())
        renewals = 0
        while missing:
            file = max(missing.values(), key=lambda file: file.stored_size)
            lock = self._arriving.setdefault(file.stored_sha256, asyncio.Lock())
            try:
                async with lock:
                    await self._bring_one(file, self._sources(file, grants.peers), progress)
            except FetchFailed as failure:
                if not failure.denied or renewals >= _RENEWALS_MAX:
                    raise
                renewals += 1
                log.info("artifact.permission_renewed", revision=revision)
                grants = await self._asker.ask(revision)
                missing = {
                    fresh.stored_sha256: fresh for fresh in grants.files if fresh.stored_sha256 in missing
                }
            else:
                del missing[file.stored_sha256]

    async def _bring_one(self, file: FileGrant, sources: list[RangeSource], progress: Progress) -> None:
        if self._is_here(file):
            progress.add(file.stored_size)
            return
        cancel = threading.Event()
        counted = 0

        def arrived(count: int) -> None:
            nonlocal counted
            with progress.lock:
                counted += count
                progress.bytes_here += count

        def transfer() -> None:
            fetch(
                Artifact(sha256=file.stored_sha256, size=file.stored_size),
                sources,
                partial=self._cache.partial(file.stored_sha256),
                target=self._cache.blob(file.stored_sha256),
                cancel=cancel,
                arrived=arrived,
                limits=self._limits,
            )

        running = asyncio.get_running_loop().run_in_executor(self._transfers, transfer)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            cancel.set()
            # The thread still writes into the partial file; what comes after must find it quiet.
            await asyncio.gather(running, return_exceptions=True)
            raise
        except BaseException:
            # It counts again when it is taken up again, with what stayed.
            progress.add(-counted)
            raise

    def _sources(self, file: FileGrant, peers: tuple[PeerGrant, ...]) -> list[RangeSource]:
        found = [
            RangeSource(
                kind="peer", url=f"http://{peer.address}{ARTIFACT_PATH}{file.stored_sha256}", token=peer.token
            )
            for peer in peers
            if is_private_address(peer.address)
        ]
        if urlsplit(file.url).scheme == "https" or self._plaintext:
            found.append(RangeSource(kind="origin", url=file.url))
        return found

    def _is_here(self, file: FileGrant) -> bool:
        return self._cache.blob(file.stored_sha256).exists()

    async def _on_disk(self, work: Callable[[], CachedRevision | None]) -> CachedRevision | None:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def data_keys(grants: Grants) -> dict[str, bytes]:
    """By path, of the files that are sealed."""
    return {file.path: file.data_key for file in grants.files if file.data_key}


def is_private_address(address: str) -> bool:
    """Whether "host:port" is an IP address inside: a pool's network or this machine, and no link-local service."""
    host, _, port = address.rpartition(":")
    try:
        ip = ip_address(host.strip("[]"))
    except ValueError:
        return False
    inside = (ip.is_private or ip.is_loopback) and not (
        ip.is_link_local or ip.is_unspecified or ip.is_multicast
    )
    return inside and port.isdecimal() and 0 < int(port) < 65_536


def _stored(file: FileGrant) -> StoredFile:
    return StoredFile(
        path=file.path, sha256=file.stored_sha256, size=file.stored_size, sealed=bool(file.data_key)
    )
