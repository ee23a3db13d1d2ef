"""The node's model cache at work: what replicas ask for first, then what the marketplace says will be needed.

One job per revision, whoever asks and however often. A replica asks again and again while a job runs; a job that
cannot go on for the moment (no link, the origin away) tries again for as long as it is asked for.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import structlog

from raymart_core.wire.link import CACHED_MAX, ArtifactGrants, ArtifactRefusal, ModelCache, Prefetch
from raymart_core.wire.manifest import REVISION_DIGEST
from raymart_providers.link.outbox import Outbox
from raymart_providers.model_cache.artifact_server import ArtifactServer
from raymart_providers.model_cache.asker import GrantAsker, NoGrants
from raymart_providers.model_cache.fetcher import Fetcher, Progress, data_keys
from raymart_serve.models.agent_api import DamagedArtifact, ModelState, OpenModel
from raymart_serve.models.cache import CachedRevision, CacheFull, sweep_unsealed
from raymart_serve.models.cache import ModelCache as CacheFolder
from raymart_serve.models.fetch import FetchCorrupted, FetchFailed, FetchLimits
from raymart_serve.models.weights import WeightsUnavailable

log = structlog.get_logger()

_Result = TypeVar("_Result")

_PAUSE_FIRST_S = 1.0
_PAUSE_LONGEST_S = 30.0
_ASKED_S = 60.0
"""Nobody waits any more when nobody has asked for this long."""
_PREFETCH_AGAIN_S = 60.0


Streaming = Literal["never", "full", "always"]
"""When replicas fetch into memory instead of the cache: never, when the cache is full, or always."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    """One revision on its way to a replica or into the cache."""

    revision: str
    asked_at: float | None
    """When a replica last asked; None while it is only fetched ahead."""
    progress: Progress = field(default_factory=Progress)
    task: "asyncio.Task[ModelState]"


class ModelHost:
    """The cache folder, its jobs and its artifact server. Everything but the server runs on one event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int,
        on_change: Callable[[], None],
        artifact_host: str | None = None,
        unsealed: Path | None = None,
        memory: Path | None = None,
        streaming: Streaming = "never",
        plaintext: bool = False,
        limits: FetchLimits | None = None,
    ) -> None:
        self._cache = CacheFolder(folder, quota_bytes=quota_bytes)
        self._unsealed = unsealed or self._cache.unsealed
        self._memory = memory
        self._streaming = streaming if memory is not None else "never"
        self._on_change = on_change
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="model-cache")
        self._asker = GrantAsker()
        self._fetcher = Fetcher(self._cache, self._asker, self._disk, plaintext=plaintext, limits=limits)
        self._server = ArtifactServer(self._find_artifact, host=artifact_host) if artifact_host else None
        self._address = ""
        self._jobs: dict[str, _Job] = {}
        self._done: dict[str, ModelState] = {}
        """What a job came to, until it is told to the next who asks."""
        self._data_keys: dict[str, dict[str, bytes]] = {}
        self._here: tuple[CachedRevision, ...] = ()
        self._wanted: tuple[str, ...] = ()
        self._chores: set[asyncio.Task[None]] = set()
        self._look = asyncio.Event()
        self._again = asyncio.Event()
        self._ahead: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Take the folder and begin. Raises: WeightsUnavailable when another agent has it, OSError."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        await self._on_disk(self._cache.open)
        if self._memory is not None:
            _take_private(self._memory)
            sweep_unsealed(self._memory)
        await self._list()
        if self._server is not None:
            self._address = self._server.start()
        self._ahead = asyncio.create_task(self._fetch_ahead(), name="models.ahead")

    async def close(self) -> None:
        """End every job; what has arrived stays for the next start. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        tasks = [
            *(job.task for job in self._jobs.values()),
            *self._chores,
            *([self._ahead] if self._ahead else []),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.stop()
        self._fetcher.close()
        await self._on_disk(self._cache.close)
        self._disk.shutdown()

    # For replicas, by the agent's loopback server.

    def open(self, ask: OpenModel) -> ModelState:
        """Where the revision stands; the first ask begins to fetch it."""
        if REVISION_DIGEST.fullmatch(ask.revision) is None:
            return ModelState(state="failed", reason=f"{ask.revision[:80]!r} is no revision's digest")
        if (done := self._done.pop(ask.revision, None)) is not None:
            return done
        now = asyncio.get_running_loop().time()
        job = self._jobs.get(ask.revision)
        if job is None:
            job = self._begin(ask.revision, asked_at=now)
        job.asked_at = now
        progress = job.progress
        return ModelState(state="fetching", percent=progress.percent, reason=progress.waits_for)

    def damaged(self, report: DamagedArtifact) -> None:
        """A replica found the file wrong: forget it, so that the next ask fetches it again."""
        chore = asyncio.create_task(self._forget(report), name="models.damaged")
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _forget(self, report: DamagedArtifact) -> None:
        found = next((here for here in self._here if here.digest == report.revision), None)
        stored = next((file for file in found.stored if file.path == report.path), None) if found else None
        if stored is not None:
            log.warning("artifact.damaged", revision=report.revision, sha256=stored.sha256)
            await self._on_disk(lambda: self._cache.damaged(stored.sha256))
            await self._list()

    # For the link.

    def up(self, outbox: Outbox) -> None:
        """A link is there: what waited for it goes on."""
        self._asker.up(outbox)
        self._again.set()
        self._look.set()

    def down(self) -> None:
        """The link is gone; transfers that run go on."""
        self._asker.down()

    def take(self, message: Prefetch | ArtifactGrants | ArtifactRefusal) -> None:
        """What the marketplace says of weights."""
        if isinstance(message, Prefetch):
            self._wanted = tuple(dict.fromkeys(filter(REVISION_DIGEST.fullmatch, message.revisions)))
            self._look.set()
        else:
            self._asker.take(message)

    def announced(self) -> ModelCache:
        """What is here, and where other nodes get it."""
        return ModelCache(
            revisions=tuple(here.digest for here in self._here[:CACHED_MAX]),
            address=self._address,
            secret=self._server.secret if self._server is not None else "",
        )

    def cached(self) -> Sequence[CachedRevision]:
        """Every revision that is here, last used first."""
        return self._here

    # Jobs.

    def _begin(self, revision: str, *, asked_at: float | None) -> _Job:
        progress = Progress()
        task = asyncio.create_task(self._obtain_stubbornly(revision, progress), name="models.job")
        job = self._jobs[revision] = _Job(revision=revision, asked_at=asked_at, progress=progress, task=task)

        def over(task: "asyncio.Task[ModelState]") -> None:
            del self._jobs[revision]
            if not task.cancelled() and job.asked_at is not None:
                self._done[revision] = task.result()

        task.add_done_callback(over)
        return job

    async def _obtain_stubbornly(self, revision: str, progress: Progress) -> ModelState:
        """Ready or failed; tries again while somebody waits and there is hope."""
        pause_s = _PAUSE_FIRST_S
        while True:
            self._again.clear()
            try:
                return await self._obtain(revision, progress)
            except (NoGrants, WeightsUnavailable, OSError) as error:
                log.warning("model.not_fetched", revision=revision, reason=str(error))
                progress.waits_for = str(error)
                if not (_may_pass(error) and self._is_asked_for(revision)):
                    return ModelState(state="failed", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._again.wait()
            pause_s = min(_PAUSE_LONGEST_S, 2 * pause_s)

    async def _obtain(self, revision: str, progress: Progress) -> ModelState:
        """Raises: NoGrants, WeightsUnavailable, OSError."""
        if await self._on_disk(lambda: self._cache.revision(revision)) is None:
            if self._memory is not None and self._streaming == "always":
                return await self._fetcher.streamed(revision, self._memory)
            try:
                await self._fetcher.bring(revision, progress, keep=lambda: self._kept(revision))
            except CacheFull:
                if (
                    self._memory is None
                    or self._streaming == "never"
                    or self._jobs[revision].asked_at is None
                ):
                    raise
                return await self._fetcher.streamed(revision, self._memory)
            self._data_keys[revision] = progress.data_keys
            log.info("model.fetched", revision=revision, bytes=progress.bytes_total)
        found = await self._on_disk(lambda: self._cache.revision(revision))
        if found is None:
            raise WeightsUnavailable(f"{revision} went away as soon as it was here; the cache is too small")
        if found.sealed and not self._data_keys.get(revision):
            # They are in no file: a restarted agent asks for them again.
            self._data_keys[revision] = data_keys(await self._asker.ask(revision))
        await self._on_disk(lambda: self._cache.touch(found))
        await self._list()
        return ModelState(
            state="ready",
            percent=100,
            root=str(found.root),
            private=str(self._unsealed),
            data_keys=self._data_keys.get(revision, {}),
        )

    def _is_asked_for(self, revision: str) -> bool:
        asked_at = self._jobs[revision].asked_at
        return asked_at is not None and asyncio.get_running_loop().time() - asked_at < _ASKED_S

    def _kept(self, revision: str) -> tuple[str, ...]:
        """What must stay for `revision`: for one that is only fetched ahead, all that is wanted as well."""
        return () if self._jobs[revision].asked_at is not None else self._wanted

    async def _fetch_ahead(self) -> None:
        """One at a time, what is wanted and not here; from the start at each change, and again after a while."""
        while True:
            self._look.clear()
            for revision in self._wanted if self._streaming != "always" else ():
                if self._look.is_set():
                    break
                if not any(here.digest == revision for here in self._here):
                    job = self._jobs.get(revision) or self._begin(revision, asked_at=None)
                    await asyncio.wait([job.task])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PREFETCH_AGAIN_S):
                    await self._look.wait()

    async def _list(self) -> None:
        """Look at what is here; tell the marketplace when it has changed."""
        before = {here.digest for here in self._here}
        self._here = tuple(await self._on_disk(self._cache.revisions))
        after = {here.digest for here in self._here}
        for revision in before - after:
            self._data_keys.pop(revision, None)
        if before != after:
            self._on_change()

    def _find_artifact(self, revision: str, sha256: str) -> Path | None:
        """For the artifact server, from its threads: one read of a tuple that is only ever replaced."""
        for here in self._here:
            if here.digest == revision and any(file.sha256 == sha256 for file in here.stored):
                path = self._cache.blob(sha256)
                return path if path.exists() else None
        return None

    async def _on_disk(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _take_private(folder: Path) -> None:
    """Make the folder, or check that it is ours alone: /dev/shm is everybody's. Raises: WeightsUnavailable."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise WeightsUnavailable(
            f"{folder} is not a folder of this user alone; delete it, or name another in RAYMART_STREAM_DIR"
        )


def _may_pass(error: Exception) -> bool:
    """Whether a later try may go well without anybody's doing."""
    match error:
        case NoGrants():
            return error.retry
        case FetchCorrupted() | CacheFull():
            return False
        case FetchFailed():
            return True
    return False
