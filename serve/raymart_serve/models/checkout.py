"""What a replica loads: from the bundle, or from the cache of this machine's agent, checked, and kept until it goes."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest
from pathlib import Path

import msgspec
import structlog

from raymart_core.errors import RaymartError
from raymart_core.wire.manifest import Manifest
from raymart_serve.agent_http import AgentAway, post
from raymart_serve.models.agent_api import (
    DAMAGED_PATH,
    OPEN_PATH,
    DamagedArtifact,
    ModelState,
    OpenModel,
)
from raymart_serve.models.cache import CachedRevision, pinned, read_revision
from raymart_serve.models.fetch import FetchCorrupted, FetchFailed
from raymart_serve.models.streaming import stream_into
from raymart_serve.models.unsealing import private_folder, unseal
from raymart_serve.models.weights import WeightsUnavailable, resolve

log = structlog.get_logger()

REGISTRY_PREFIX = "registry:"
_POLL_FIRST_S = 0.02
_POLL_LONGEST_S = 0.5
_AGENT_AWAY_S = 120.0
"""How long a replica waits for an agent that does not answer."""
_ROUNDS_MAX = 4
"""Times that the cache may turn out to hold something wrong."""
_HASH_THREADS = min(4, os.cpu_count() or 1)
_decode_state = msgspec.json.Decoder(ModelState).decode

Progress = Callable[[int, str], None]
"""Told the percent that has arrived, and what is waited for (mostly nothing)."""


@contextlib.asynccontextmanager
async def checked_out(
    source: str,
    sha256: str,
    *,
    agent_file: Path | None,
    progress: Progress = lambda _percent, _reason: None,
) -> AsyncIterator[Path]:
    """The file or folder that an engine loads, every digest checked; it stays until this is left.

    Source forms: "bundled:<name>"; "registry:sha256:<hex>", a revision that the node agent has or fetches.

    Raises: WeightsUnavailable.
    """
    if not source.startswith(REGISTRY_PREFIX):
        yield await asyncio.to_thread(resolve, source, sha256)
        return
    revision = source.removeprefix(REGISTRY_PREFIX)
    if revision != f"sha256:{sha256}":
        raise WeightsUnavailable(f"source {source!r} and SHA-256 {sha256!r} name two revisions")
    if agent_file is None:
        raise WeightsUnavailable(
            f"{source!r} comes from the node agent; set RAYMART_AGENT_FILE to its agent.json"
        )
    async with contextlib.AsyncExitStack() as held:
        reason = "look at the disk of the model cache"
        for _ in range(_ROUNDS_MAX):
            state = await _ready(agent_file, revision, progress)
            try:
                if state.state == "stream":
                    path = await _stream(held, state, revision, progress)
                else:
                    path = await _take(held, state, revision)
            except _Damaged as damaged:
                log.warning("model.damaged", revision=revision, path=damaged.path)
                await held.aclose()
                await _tell_damaged(agent_file, DamagedArtifact(revision=revision, path=damaged.path))
                continue
            except FileNotFoundError:
                # Thrown away between the agent's answer and our pin; the agent fetches it again.
                await held.aclose()
                continue
            except FetchCorrupted:
                raise  # Wrong from everywhere, time after time.
            except FetchFailed as failure:
                # Its URLs are too old, or a source went away: the agent names others.
                log.warning("model.not_streamed", revision=revision, reason=str(failure))
                await held.aclose()
                reason = str(failure)
                continue
            yield path
            return
        raise WeightsUnavailable(f"{source!r} was damaged or gone {_ROUNDS_MAX} times: {reason}")


def entry_of(root: Path, manifest: Manifest) -> Path:
    """What of a revision's folder is named to the engine: its only file, or the first GGUF part, or the folder."""
    ggufs = [file.path for file in manifest.files if file.path.endswith(".gguf")]
    if ggufs:
        return root / ggufs[0]
    return root / manifest.files[0].path if len(manifest.files) == 1 else root


class _Damaged(Exception):
    """The file at `path` of the manifest is not what it must be. Raised and caught inside this module."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


async def _ready(agent_file: Path, revision: str, progress: Progress) -> ModelState:
    """The agent's answer once it has the revision. Raises: WeightsUnavailable."""
    body = msgspec.json.encode(OpenModel(revision=revision))
    loop = asyncio.get_running_loop()
    heard_at = loop.time()
    pause_s = _POLL_FIRST_S
    while True:
        try:
            state = _decode_state(await post(agent_file, OPEN_PATH, body))
            heard_at = loop.time()
        except (AgentAway, OSError, TimeoutError, msgspec.MsgspecError) as error:
            reason = str(error) or type(error).__name__
            if loop.time() - heard_at > _AGENT_AWAY_S:
                raise WeightsUnavailable(f"the node agent does not answer: {reason}") from error
            state = ModelState(state="fetching", reason=f"the node agent is away: {reason}")
        if state.state in {"ready", "stream"}:
            return state
        if state.state == "failed":
            raise WeightsUnavailable(state.reason)
        progress(state.percent, state.reason)
        await asyncio.sleep(pause_s)
        pause_s = min(_POLL_LONGEST_S, 2 * pause_s)


async def _take(held: contextlib.AsyncExitStack, state: ModelState, revision: str) -> Path:
    """Pin, check, unseal. Raises: _Damaged, FileNotFoundError."""
    cached = read_revision(Path(state.root), revision)
    if cached is None:
        raise FileNotFoundError(state.root)
    held.enter_context(pinned(cached))
    if cached.sealed:
        root = held.enter_context(private_folder(Path(state.private)))
        damaged = await asyncio.to_thread(unseal, cached, state.data_keys, root)
    else:
        root = cached.files
        damaged = await asyncio.to_thread(_first_damaged, cached)
    if damaged is not None:
        raise _Damaged(damaged)
    return entry_of(root, cached.manifest)


async def _stream(
    held: contextlib.AsyncExitStack, state: ModelState, revision: str, progress: Progress
) -> Path:
    """Raises: FetchFailed, WeightsUnavailable, OSError."""
    root = held.enter_context(private_folder(Path(state.private)))
    manifest = await stream_into(
        root, state, revision=revision, progress=lambda percent: progress(percent, "")
    )
    return entry_of(root, manifest)


def _first_damaged(cached: CachedRevision) -> str | None:
    """The path of a file whose bytes are not the manifest's; None when all are right. Blocking."""

    def is_right(path: str, sha256: str) -> bool:
        try:
            with (cached.files / path).open("rb") as file:
                return file_digest(file, "sha256").hexdigest() == sha256
        except OSError as error:
            # A disk that cannot read a file has damaged it.
            log.warning("model.unreadable", path=path, reason=str(error))
            return False

    files = cached.manifest.files
    with ThreadPoolExecutor(_HASH_THREADS, thread_name_prefix="verify") as threads:
        right = threads.map(is_right, [file.path for file in files], [file.sha256 for file in files])
        return next((file.path for file, good in zip(files, right, strict=True) if not good), None)


async def _tell_damaged(agent_file: Path, damaged: DamagedArtifact) -> None:
    try:
        await post(agent_file, DAMAGED_PATH, msgspec.json.encode(damaged))
    except (RaymartError, OSError, TimeoutError) as error:
        raise WeightsUnavailable(
            f"{damaged.path!r} is damaged and the node agent is away: {error}"
        ) from error
