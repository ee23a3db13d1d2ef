"""Weights straight from object store and peers into memory, for revisions that the node's cache does not take.

The folder lies on a memory file system and goes with the replica: nothing is written to a disk, and an engine that maps
its files, as safetensors and llama.cpp do, uses these very pages. Each file is checked while it arrives, and the engine
sees none before all are right.
"""

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from raymart_core.errors import InvalidRequest
from raymart_core.wire.manifest import Manifest, ManifestFile, read_manifest
from raymart_serve.models.agent_api import ModelState, StreamFile
from raymart_serve.models.fetch import Artifact, FetchLimits, fetch
from raymart_serve.models.range_source import RangeSource
from raymart_serve.models.unsealing import open_sealed
from raymart_serve.models.weights import WeightsUnavailable


async def stream_into(
    folder: Path,
    state: ModelState,
    *,
    revision: str,
    progress: Callable[[int], None],
    limits: FetchLimits | None = None,
) -> Manifest:
    """Fetch every file of the revision into the empty `folder`, opened where it is sealed; `progress` gets percents.

    Raises: FetchFailed, of which `denied` asks for a fresh state; WeightsUnavailable; OSError when memory is full.
    """
    manifest = _read(state, revision)
    _check_room(folder, manifest, state)
    cancel = threading.Event()
    total_bytes = sum(file.stored_size for file in state.files)
    here_bytes = 0

    def arrived(count: int) -> None:
        nonlocal here_bytes
        with lock:
            here_bytes += count
        loop.call_soon_threadsafe(progress, 100 * here_bytes // max(1, total_bytes))

    def stream_all() -> None:
        for described, file in zip(manifest.files, state.files, strict=True):
            _stream_one(
                folder,
                described,
                file,
                data_key=state.data_keys.get(file.path),
                cancel=cancel,
                arrived=arrived,
                limits=limits,
            )

    lock = threading.Lock()
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(None, stream_all)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        cancel.set()
        # The folder is deleted after this; the thread must have left it.
        await asyncio.gather(running, return_exceptions=True)
        raise
    return manifest


def _read(state: ModelState, revision: str) -> Manifest:
    """The manifest, with files that fit to it. Raises: WeightsUnavailable."""
    try:
        manifest = read_manifest(state.manifest, digest=revision)
    except InvalidRequest as error:
        raise WeightsUnavailable(f"the agent describes another revision: {error.message}") from error
    if [file.path for file in state.files] != [file.path for file in manifest.files]:
        raise WeightsUnavailable(f"the agent names other files than those of {revision}")
    for described, file in zip(manifest.files, state.files, strict=True):
        if file.path not in state.data_keys and file.stored_sha256 != described.sha256:
            raise WeightsUnavailable(
                f"{file.path!r} is stored as {file.stored_sha256}, not {described.sha256}"
            )
    return manifest


def _check_room(folder: Path, manifest: Manifest, state: ModelState) -> None:
    sealed_bytes = max((file.stored_size for file in state.files if file.path in state.data_keys), default=0)
    needed_bytes = manifest.total_bytes() + sealed_bytes
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise WeightsUnavailable(
            f"{needed_bytes} bytes of weights do not fit into memory at {folder.parent.parent}, where {free_bytes} "
            "are free; give the model cache more room (RAYMART_MODEL_CACHE_BYTES) or place fewer models on this node"
        )


def _stream_one(
    folder: Path,
    described: ManifestFile,
    file: StreamFile,
    *,
    data_key: bytes | None,
    cancel: threading.Event,
    arrived: Callable[[int], None],
    limits: FetchLimits | None,
) -> None:
    target = folder / described.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    stored = target if data_key is None else folder.parent / "stored"
    fetch(
        Artifact(sha256=file.stored_sha256, size=file.stored_size),
        [RangeSource(kind=source.kind, url=source.url, token=source.token) for source in file.sources],
        partial=folder.parent / "partial",
        target=stored,
        cancel=cancel,
        arrived=arrived,
        limits=limits,
    )
    if data_key is not None:
        right = open_sealed(stored, data_key, described, target)
        stored.unlink()
        if not right:
            raise WeightsUnavailable(
                f"{described.path!r} does not open to what the manifest says; import it again"
            )
