"""A replica's life: listen, load, announce, serve, drain, go. The same inside Ray Serve and outside."""

import asyncio
import contextlib
import os
import secrets
import time
from ipaddress import ip_address

import structlog

from raymart_core.wire.replica import Health, Stats
from raymart_serve.engines.protocol import Engine, EngineSpec
from raymart_serve.engines.registry import engine_factory
from raymart_serve.models import checked_out
from raymart_serve.replica.config import ReplicaConfig
from raymart_serve.replica.http_connection import HttpLimits
from raymart_serve.replica.http_server import HttpServer
from raymart_serve.replica.own_certificate import make_own_certificate
from raymart_serve.replica.registration import AgentRegistration, ReplicaRegistration
from raymart_serve.replica.routes import Routes
from raymart_serve.settings import ReplicaSettings

log = structlog.get_logger()

_FLUSH_TIMEOUT_S_MIN = 0.5
_FETCHED_PERCENT = 90
"""Of a load, by then the weights are here; the engine's own part is the rest."""


class Replica:
    """Owns an engine and the port through which it is reached. All methods belong to one event loop."""

    engine: Engine
    """Present once `start` has returned, and earlier only while it loads."""

    def __init__(
        self,
        config: ReplicaConfig,
        settings: ReplicaSettings,
        *,
        replica_id: str,
        limits: HttpLimits | None = None,
    ) -> None:
        self.config = config
        self.replica_id = replica_id
        self.revision = config.revision
        self.secret = secrets.token_urlsafe(32)
        self.address = ""
        """host:port on loopback, without TLS, once `start` has begun to listen."""
        self.direct_address = ""
        """host:port on another address of this machine, with TLS; empty where the settings name none."""
        self._certificate_sha256 = ""
        self._host = settings.replica_host
        self._routes = Routes(self)
        self._server = HttpServer(self._routes, secret=self.secret, limits=limits or HttpLimits())
        self._registration = AgentRegistration(settings.agent_file, self.registration)
        self._agent_file = settings.agent_file
        self._weights = contextlib.AsyncExitStack()
        """What keeps the weights on this machine while they are loaded."""
        self._loaded = self._draining = self._gone = False
        self._percent = 0
        self._waits_for = ""

    @property
    def accepting(self) -> bool:
        """Whether new generations are taken."""
        return self._loaded and not self._draining

    @property
    def in_flight(self) -> int:
        """Generations that run, wait or still send their last bytes."""
        return self._routes.in_flight

    async def start(self) -> None:
        """Listen, load the model, then announce. Raises: WeightsUnavailable, UnknownEngine, EngineFailed."""
        started_at = time.monotonic()
        await self._listen()
        try:
            await self._load()
        except BaseException:
            await self._server.close()
            await self._weights.aclose()
            raise
        self._loaded = True
        self._registration.start()
        log.info(
            "replica.ready",
            replica_id=self.replica_id,
            revision=self.revision,
            engine=self.engine.label,
            load_s=round(time.monotonic() - started_at, 3),
        )

    def registration(self) -> ReplicaRegistration:
        """What the agent is to know now."""
        return ReplicaRegistration(
            replica_id=self.replica_id,
            revision=self.config.revision,
            model=self.config.model,
            engine=self.engine.label,
            address=self.address,
            secret=self.secret,
            pid=os.getpid(),
            capacity=self.engine.capacity,
            context_length=self.engine.context_length,
            state="gone" if self._gone else "draining" if self._draining else "ready",
            waiting=self.stats().waiting,
            direct_address=self.direct_address,
            certificate_sha256=self._certificate_sha256,
        )

    async def health(self) -> Health:
        """Loading, ready, draining, or failing with the engine's reason."""
        if not self._loaded:
            return Health(state="loading", percent=self._percent, reason=self._waits_for)
        health = await self.engine.health()
        if health.state == "failing":
            return Health(state="failing", reason=health.reason)
        return Health(state="draining" if self._draining else "ready")

    def stats(self) -> Stats:
        """The engine's counters."""
        if not self._loaded:
            return Stats(
                running=0,
                waiting=0,
                capacity=self.config.slots,
                tokens_generated_total=0,
                requests_aborted_total=0,
            )
        stats = self.engine.stats()
        return Stats(
            running=stats.running,
            waiting=stats.waiting,
            capacity=self.engine.capacity,
            tokens_generated_total=stats.tokens_generated_total,
            requests_aborted_total=stats.requests_aborted_total,
        )

    def drain(self) -> None:
        """Take no new generations and say so; what runs goes on. Cannot be taken back."""
        if not self._draining:
            self._draining = True
            self._registration.changed()
            log.info("replica.draining", replica_id=self.replica_id, in_flight=self.in_flight)

    async def stop(self, *, timeout_s: float) -> None:
        """Drain, wait at most `timeout_s` for what runs and for its last byte to leave, then break off the rest.

        Idempotent. Frees the model.
        """
        if self._gone:
            return
        if not self._loaded:
            # A failed or interrupted start has announced nothing and serves nobody.
            self._gone = True
            await self._server.close()
            return
        self.drain()
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._routes.quiet.wait()
        except TimeoutError:
            log.warning("replica.cut_off", replica_id=self.replica_id, in_flight=self.in_flight)
        self._gone = True
        await self._server.close(flush_timeout_s=max(_FLUSH_TIMEOUT_S_MIN, deadline - time.monotonic()))
        await self._registration.stop()
        await self.engine.close()
        await self._weights.aclose()
        log.info("replica.gone", replica_id=self.replica_id)

    async def _listen(self) -> None:
        host = ip_address(self._host)
        if host.is_loopback:
            self.address = await self._server.start(self._host)
            return
        # The agent of this machine needs no TLS: what it may read of the replica it is told anyway.
        self.address = await self._server.start("127.0.0.1" if host.version == 4 else "::1")
        certificate = make_own_certificate(host)
        self._certificate_sha256 = certificate.sha256
        self.direct_address = await self._server.start(self._host, tls=certificate.context)

    async def _load(self) -> None:
        config = self.config
        factory = engine_factory(config.engine)
        path = await self._weights.enter_async_context(
            checked_out(config.source, config.sha256, agent_file=self._agent_file, progress=self._arrived)
        )
        self.engine = factory(
            EngineSpec(
                path=path,
                context_length=config.context_length,
                slots=config.slots,
                model=config.model,
                revision=config.revision,
                parameters=config.parameters,
                waiting_max=config.waiting_max,
                step_delay_s=config.step_delay_ms / 1000,
            )
        )
        try:
            await self.engine.load(self._progressed)
            await self.engine.warm_up()
        except BaseException:
            await self.engine.close()
            raise

    def _arrived(self, percent: int, waits_for: str) -> None:
        self._percent = percent * _FETCHED_PERCENT // 100
        self._waits_for = waits_for

    def _progressed(self, percent: int) -> None:
        self._waits_for = ""
        self._percent = max(self._percent, percent)
