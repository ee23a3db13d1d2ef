"""Fetch one artifact: ranges in parallel, peers before the origin, hashed while it arrives, kept only if it is right.

Workers write pieces wherever they belong; one hasher follows the part that has no gap, so that the digest is known a
moment after the last byte. A wrong digest throws everything away, bars the peers that took part, and begins again.
What an interrupted fetch has got stays in its partial file for the next one.

    WeightsUnavailable
    └── FetchFailed             no source gave the rest; `denied` when a fresh permission may help
        ├── FetchCorrupted      whole, but wrong, time after time
        └── FetchCancelled
"""

import hashlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog

from raymart_serve.models.partial_file import PIECE_BYTES, PartialFile
from raymart_serve.models.range_source import (
    RangeConnection,
    RangeSource,
    SourceAway,
    SourceDenied,
    SourceFailed,
)
from raymart_serve.models.weights import WeightsUnavailable

log = structlog.get_logger()

WORKERS = 4
"""Ranges at once, of an origin that may be far away. A peer is near: one range of it at a time is faster on any
machine, for its bytes then come in the order in which they are hashed."""
_FAILURES_MAX = 4
"""Of one source in a row, before it is given up."""
_BACKOFF_FIRST_S = 0.2
_BACKOFF_LONGEST_S = 5.0
_ROUNDS_MAX = 3
"""Times that a whole file may come out wrong."""
_POLL_S = 0.2
_HASH_CHUNK_BYTES = 1024 * 1024


class FetchFailed(WeightsUnavailable):
    """No source gave the rest of the bytes."""

    def __init__(self, message: str, *, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied
        """Whether a source refused its URL or token, so that fresh ones may help."""


class FetchCorrupted(FetchFailed):
    """The file comes out wrong from everywhere: trying again is of no use."""


class FetchCancelled(FetchFailed):
    """The fetch was told to end; what has arrived stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Bytes as they are stored and sent: of a sealed file, the sealed ones."""

    sha256: str
    """64 lower-case hex digits."""
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """How hard a fetch tries; tests make the times shorter."""

    workers: int = WORKERS
    piece_bytes: int = PIECE_BYTES
    timeout_s: float = 20.0
    """For each connection and each wait for bytes."""
    backoff_first_s: float = _BACKOFF_FIRST_S
    backoff_longest_s: float = _BACKOFF_LONGEST_S


def fetch(
    artifact: Artifact,
    sources: Sequence[RangeSource],
    *,
    partial: Path,
    target: Path,
    cancel: threading.Event,
    arrived: Callable[[int], None] = lambda _: None,
    limits: FetchLimits | None = None,
) -> None:
    """Put `artifact` at `target`, by way of `partial`. `arrived` is told each number of new bytes, from any thread.

    Blocking. Raises: FetchFailed, FetchCancelled; OSError when the disk does not take the bytes.
    """
    limits = limits or FetchLimits()
    barred: set[RangeSource] = set()
    file = PartialFile(partial, size=artifact.size, piece_bytes=limits.piece_bytes)
    try:
        arrived(file.bytes_here)
        for _ in range(_ROUNDS_MAX):
            round_ = _Round(file, [source for source in sources if source not in barred], cancel, limits)
            found = round_.run(arrived)
            if found == artifact.sha256:
                file.finish(target)
                kinds = sorted({source.kind for source in round_.used})
                log.info("artifact.fetched", sha256=found, bytes=artifact.size, sources=kinds)
                return
            log.warning(
                "artifact.corrupted",
                sha256=artifact.sha256,
                found=found,
                sources=sorted(source.name for source in round_.used),
            )
            arrived(-file.bytes_here)
            file.forget()
            # The origin may have been cut or the disk may have lied; peers are many, and one lie is enough.
            barred |= {source for source in round_.used if source.kind == "peer"}
        file.discard()
        raise FetchCorrupted(
            f"artifact {artifact.sha256} came out wrong {_ROUNDS_MAX} times, last from "
            f"{', '.join(sorted(source.name for source in round_.used)) or 'the disk'}; "
            "the stored copy is damaged: import the revision again"
        )
    finally:
        file.close()


class _Round:
    """One try to get all missing pieces."""

    def __init__(
        self,
        file: PartialFile,
        sources: Sequence[RangeSource],
        cancel: threading.Event,
        limits: FetchLimits,
    ) -> None:
        self.used: set[RangeSource] = set()
        """Sources that gave a byte."""
        self._file = file
        self._cancel = cancel
        self._limits = limits
        self._lock = threading.Lock()
        self._todo = file.missing()[::-1]
        self._alive = [*sources]
        self._failures: dict[RangeSource, int] = {}
        self._reasons: list[str] = []
        self._denied = False
        self._broken = threading.Event()
        """Set when the round cannot succeed any more."""

    def run(self, arrived: Callable[[int], None]) -> str:
        """The SHA-256 of the whole file, hex. Raises: FetchFailed, FetchCancelled, OSError."""
        with ThreadPoolExecutor(self._limits.workers + 1, thread_name_prefix="artifact") as threads:
            digest = threads.submit(self._hash)
            try:
                while (count := self._worker_count()) > 0:
                    workers = [threads.submit(self._work, number, arrived) for number in range(count)]
                    for worker in workers:
                        worker.result()
            finally:
                if self._file.missing():
                    self._broken.set()
            found = digest.result()
            if self._file.missing() or found is None:
                raise self._failure()
            return found

    def _worker_count(self) -> int:
        """How many can work now: one for each peer, or all on the origin; 0 when the round is over."""
        with self._lock:
            if self._over or not self._alive:
                return 0
            peers = sum(source.kind == "peer" for source in self._alive)
            return min(peers or self._limits.workers, self._limits.workers, len(self._todo))

    def _work(self, number: int, arrived: Callable[[int], None]) -> None:
        """Get pieces until none is left, or until the origin has to take over from the last peer."""
        connection: RangeConnection | None = None
        kind: str | None = None
        try:
            while (source := self._source(number)) is not None and kind in {None, source.kind}:
                if (index := self._take()) is None:
                    return
                kind = source.kind
                if connection is None or connection.source is not source:
                    if connection is not None:
                        connection.close()
                    connection = None
                try:
                    connection = connection or RangeConnection(source, timeout_s=self._limits.timeout_s)
                    self._get(connection, index)
                except SourceFailed as error:
                    self._failed(source, index, error)
                else:
                    self._got(source)
                    arrived(self._file.piece(index)[1])
        except BaseException:
            # The other workers would go on for nothing.
            self._broken.set()
            raise
        finally:
            if connection is not None:
                connection.close()

    def _get(self, connection: RangeConnection, index: int) -> None:
        def write(offset: int, data: memoryview) -> None:
            if self._over:
                raise SourceFailed("the fetch is over")
            # Before the bytes count: also a piece of which it gave only the beginning may be wrong because of it.
            self.used.add(connection.source)
            self._file.write(offset, data)

        # Of a piece that broke off at the frontier only the rest: what came is in the digest already.
        offset, length = self._file.rest(index)
        if length > 0:
            connection.read(offset, length, total=self._file.size, take=write)
        self._file.note(index)

    @property
    def _over(self) -> bool:
        return self._cancel.is_set() or self._broken.is_set()

    def _take(self) -> int | None:
        with self._lock:
            return None if self._over or not self._todo else self._todo.pop()

    def _source(self, number: int) -> RangeSource | None:
        """The source of worker `number`: workers spread over the peers; the origin only when no peer is left."""
        with self._lock:
            peers = [source for source in self._alive if source.kind == "peer"]
            choice = peers or self._alive
            return choice[number % len(choice)] if choice else None

    def _got(self, source: RangeSource) -> None:
        with self._lock:
            self._failures.pop(source, None)

    def _failed(self, source: RangeSource, index: int, error: SourceFailed) -> None:
        with self._lock:
            self._todo.append(index)
            if self._over or source not in self._alive:
                return
            denied = isinstance(error, SourceDenied)
            self._denied |= denied
            failures = self._failures[source] = self._failures.get(source, 0) + 1
            # A peer that is away is one of several; the origin is waited for.
            away = isinstance(error, SourceAway) and source.kind == "peer"
            if denied or away or failures >= _FAILURES_MAX:
                self._alive.remove(source)
                self._reasons.append(str(error))
                log.warning("artifact.source_given_up", source=source.name, reason=str(error))
                return
        longest_s = min(self._limits.backoff_longest_s, self._limits.backoff_first_s * 2**failures)
        self._cancel.wait(longest_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads retries, guards nothing

    def _hash(self) -> str | None:
        """The digest, or None when the round ended before the file was whole."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_HASH_CHUNK_BYTES))
        offset = 0
        while offset < self._file.size:
            frontier = self._file.wait_beyond(offset, timeout_s=_POLL_S)
            while offset < frontier:
                count = self._file.read(offset, buffer[: min(_HASH_CHUNK_BYTES, frontier - offset)])
                assert count, "the partial file has its full length from the start"
                digest.update(buffer[:count])
                offset += count
            if self._over:
                return None
        return digest.hexdigest()

    def _failure(self) -> FetchFailed:
        if self._cancel.is_set():
            return FetchCancelled("the fetch was told to end")
        reasons = "; ".join(self._reasons) or "no source has it"
        return FetchFailed(f"no source gives the rest: {reasons}", denied=self._denied)
