"""What a replica loads from its agent's cache, against a real agent's model host on a real loopback server."""

import asyncio
import contextlib
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest

from raymart_providers.loopback import Answer, LoopbackServer
from raymart_providers.model_cache import ModelHost
from raymart_serve.models import WeightsUnavailable, checked_out, resolve
from raymart_serve.models.agent_api import DAMAGED_PATH, OPEN_PATH, DamagedArtifact, ModelState, OpenModel
from raymart_serve.models.cache import ModelCache, StoredFile, is_pinned
from raymart_serve.replica import Replica, ReplicaConfig
from raymart_serve.settings import ReplicaSettings
from support.revisions import Revision

GGUF = {"demo.gguf": b"GGUF" + bytes(range(256)) * 16}
FOLDER = {"model_index.json": b"{}", "unet/weights.safetensors": bytes(4096)}


def fill(root, revision):
    """Put a revision into a cache folder, as if it had been fetched."""
    cache = ModelCache(root, quota_bytes=1 << 30)
    cache.open()
    stored = tuple(
        StoredFile(path=file.path, sha256=file.sha256, size=file.bytes) for file in revision.manifest.files
    )
    for file in stored:
        cache.blob(file.sha256).write_bytes(revision.files[file.path])
    made = cache.complete(revision.manifest, stored)
    cache.close()
    return made


@pytest.fixture
async def agent(tmp_path):
    """A model host behind a loopback server; the agent file."""
    host = None
    told = []

    def answer(request):
        if request.path == OPEN_PATH:
            return Answer(
                HTTPStatus.OK,
                msgspec.json.encode(host.open(msgspec.json.decode(request.body, type=OpenModel))),
            )
        assert request.path == DAMAGED_PATH
        told.append(msgspec.json.decode(request.body, type=DamagedArtifact))
        host.damaged(told[-1])
        return Answer(HTTPStatus.OK)

    server = LoopbackServer(answer)

    @contextlib.asynccontextmanager
    async def run():
        nonlocal host
        host = ModelHost(tmp_path / "models", quota_bytes=1 << 30, on_change=lambda: None)
        await host.start()
        await server.start(tmp_path / "agent.json")
        try:
            yield tmp_path / "agent.json"
        finally:
            await server.stop()
            await host.close()

    run.root = tmp_path / "models"
    run.told = told
    return run


def source(revision):
    return {"source": f"registry:{revision.digest}", "sha256": revision.digest.removeprefix("sha256:")}


class TestCheckedOut:
    async def test_a_bundled_model_needs_no_agent(self):
        sha256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
        async with checked_out("bundled:demo-llm.gguf", sha256, agent_file=None) as path:
            assert path == resolve("bundled:demo-llm.gguf", sha256)

    @pytest.mark.parametrize(
        ("files", "entry"), [(GGUF, "demo.gguf"), (FOLDER, ""), ({"m.onnx": b"x"}, "m.onnx")]
    )
    async def test_the_engine_gets_the_file_or_the_folder(self, agent, files, entry):
        revision = Revision(files)
        made = fill(agent.root, revision)
        async with agent() as agent_file, checked_out(**source(revision), agent_file=agent_file) as path:
            assert path == made.files / entry

    async def test_the_revision_is_pinned_until_the_replica_goes(self, agent):
        revision = Revision(GGUF)
        made = fill(agent.root, revision)
        async with agent() as agent_file:
            async with checked_out(**source(revision), agent_file=agent_file):
                assert is_pinned(made)
            assert not is_pinned(made)

    async def test_a_damaged_file_is_never_loaded_but_told_to_the_agent(self, agent):
        revision = Revision(FOLDER)
        made = fill(agent.root, revision)
        weights = made.files / "unet" / "weights.safetensors"
        weights.chmod(0o644)
        weights.write_bytes(bytes(4095) + b"\x01")
        waits = asyncio.Event()

        def progress(_percent, reason):
            # It is to be fetched again, for which this agent has no link.
            if "no link" in reason:
                waits.set()

        async def load():
            async with checked_out(**source(revision), agent_file=agent_file, progress=progress):
                pytest.fail("damaged weights were handed out")

        async with agent() as agent_file:
            loading = asyncio.create_task(load())
            async with asyncio.timeout(30):
                await waits.wait()
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            assert loading.cancelled()
        assert agent.told == [DamagedArtifact(revision=revision.digest, path="unet/weights.safetensors")]
        assert not is_pinned(made)

    async def test_an_agent_that_starts_later_is_waited_for(self, agent, tmp_path):
        revision = Revision(GGUF)
        fill(agent.root, revision)
        waiting = asyncio.Event()

        async def load():
            async with checked_out(
                **source(revision), agent_file=tmp_path / "agent.json", progress=lambda *_: waiting.set()
            ) as path:
                return path.read_bytes()

        loading = asyncio.create_task(load())
        await waiting.wait()
        async with agent(), asyncio.timeout(30):
            assert await loading == GGUF["demo.gguf"]

    async def test_the_agent_s_reason_is_the_replica_s(self, tmp_path):
        failed = ModelState(state="failed", reason="not placed here")
        server = LoopbackServer(lambda _: Answer(HTTPStatus.OK, msgspec.json.encode(failed)))
        await server.start(tmp_path / "agent.json")
        with pytest.raises(WeightsUnavailable, match="not placed here"):
            async with checked_out(**source(Revision(GGUF)), agent_file=tmp_path / "agent.json"):
                pass
        await server.stop()

    async def test_a_folder_that_holds_another_revision_is_not_taken(self, agent, tmp_path):
        wanted, other = Revision(GGUF), Revision(FOLDER)
        made = fill(agent.root, other)
        lie = ModelState(state="ready", root=str(made.root))
        server = LoopbackServer(lambda _: Answer(HTTPStatus.OK, msgspec.json.encode(lie)))
        await server.start(tmp_path / "agent.json")
        with pytest.raises(WeightsUnavailable, match="damaged or gone"):
            async with checked_out(**source(wanted), agent_file=tmp_path / "agent.json"):
                pass
        await server.stop()

    @pytest.mark.parametrize(
        ("source", "agent_file", "message"),
        [
            ("registry:sha256:" + "ab" * 32, None, "RAYMART_AGENT_FILE"),
            ("registry:sha256:" + "cd" * 32, Path("x"), "name two revisions"),
            ("s3:bucket", None, "no known form"),
        ],
        ids=["no agent", "two revisions", "unknown"],
    )
    async def test_what_cannot_be_looked_for_is_refused(self, source, agent_file, message):
        with pytest.raises(WeightsUnavailable, match=message):
            async with checked_out(source, "ab" * 32, agent_file=agent_file):
                pass


class TestReplica:
    async def test_a_replica_loads_from_the_cache_and_lets_go_when_it_stops(self, agent):
        bundled = resolve(
            "bundled:demo-llm.gguf", "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
        )
        revision = Revision({"demo.gguf": bundled.read_bytes()})
        made = fill(agent.root, revision)
        async with agent() as agent_file:
            replica = Replica(
                ReplicaConfig(
                    model="raymart/demo-chat",
                    revision=revision.digest,
                    engine="llama_cpp",
                    **source(revision),
                    context_length=256,
                    slots=1,
                ),
                ReplicaSettings(agent_file=agent_file),
                replica_id="test",
            )
            await replica.start()
            assert replica.engine.label.startswith("llama_cpp")
            assert is_pinned(made)
            await replica.stop(timeout_s=1)
            assert not is_pinned(made)
