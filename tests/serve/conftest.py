"""A real engine and a real replica on a loop of its own thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.protocol import EngineSpec
from raymart_serve.models import resolve
from raymart_serve.replica import Replica, ReplicaConfig
from raymart_serve.replica.http_connection import HttpLimits
from raymart_serve.settings import ReplicaSettings

SOURCE = "bundled:demo-llm.gguf"
SHA256 = "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3"
REVISION = "sha256:" + "12" * 32

Result = TypeVar("Result")


@pytest.fixture
async def make_engine() -> AsyncIterator[Callable[..., Coroutine[Any, Any, LlamaCppEngine]]]:
    """Loads engines of the bundled model and closes them."""
    engines = []

    async def make(**changes: Any) -> LlamaCppEngine:
        values = {"path": resolve(SOURCE, SHA256), "context_length": 1024, "slots": 2, **changes}
        engine = LlamaCppEngine(EngineSpec(**values))
        engines.append(engine)
        await engine.load(lambda _: None)
        return engine

    yield make
    for engine in engines:
        await engine.close()


@pytest.fixture
async def engine(make_engine: Callable[..., Coroutine[Any, Any, LlamaCppEngine]]) -> LlamaCppEngine:
    return await make_engine()


class RunningReplica:
    """A replica on an event loop in a thread, so that blocking clients can talk to it. The loop is uvloop, as in Serve."""

    def __init__(self, config: ReplicaConfig, settings: ReplicaSettings, limits: HttpLimits) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.replica = self.call(self._made(config, settings, limits))
        self.address = self.replica.address
        self.secret = self.replica.secret

    @staticmethod
    async def _made(config: ReplicaConfig, settings: ReplicaSettings, limits: HttpLimits) -> Replica:
        replica = Replica(config, settings, replica_id="test", limits=limits)
        await replica.start()
        return replica

    def call(self, coroutine: Coroutine[Any, Any, Result], *, timeout_s: float = 30.0) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def stop(self, *, timeout_s: float = 5.0) -> None:
        self.call(self.replica.stop(timeout_s=timeout_s))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def run_replica() -> Iterator[Callable[..., RunningReplica]]:
    """Starts replicas of the bundled model and stops them. Keywords of ReplicaConfig, and `limits`, `settings`."""
    started = []

    def run(
        *, limits: HttpLimits | None = None, settings: ReplicaSettings | None = None, **changes: Any
    ) -> RunningReplica:
        values = {
            "model": "raymart/demo-chat",
            "revision": REVISION,
            "engine": "llama_cpp",
            "source": SOURCE,
            "sha256": SHA256,
            "context_length": 1024,
            "slots": 2,
            **changes,
        }
        running = RunningReplica(
            ReplicaConfig(**values), settings or ReplicaSettings(agent_file=None), limits or HttpLimits()
        )
        started.append(running)
        return running

    yield run
    for running in started:
        if not running._loop.is_closed():
            running.stop(timeout_s=0.0)
