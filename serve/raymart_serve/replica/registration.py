"""Telling the node agent of this machine where the replica is: every second, and at each change.

The agent comes and goes on its own; a replica without one goes on serving whoever knows its address.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from raymart_core.wire.replica import encode
from raymart_serve.agent_http import AgentAway, post

log = structlog.get_logger()

REGISTRATION_PATH = "/v1/replicas"
_INTERVAL_S = 1.0


class ReplicaRegistration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replica tells the agent."""

    replica_id: str
    revision: str
    """Manifest digest, "sha256:<hex>"."""
    model: str
    """Model slug, such as "raymart/demo-chat"."""
    engine: str
    address: str
    """host:port of the replica's own HTTP server, as the agent reaches it: without TLS, mostly on loopback."""
    secret: str
    """Bearer token of that server."""
    pid: int
    capacity: int
    context_length: int
    """Tokens of prompt and completion together."""
    state: Literal["ready", "draining", "gone"] = "ready"
    waiting: int = 0
    """Requests in the replica's queue."""
    direct_address: str = ""
    """host:port where gateways reach the same server over TLS; empty where it listens on loopback only."""
    certificate_sha256: str = ""
    """Of the certificate shown there (DER), 64 hex digits."""


decode_registration = msgspec.json.Decoder(ReplicaRegistration).decode


class AgentRegistration:
    """Keeps the agent told. `current` gives the registration as it is now."""

    def __init__(self, agent_file: Path | None, current: Callable[[], ReplicaRegistration]) -> None:
        self._agent_file = agent_file
        self._current = current
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._away = False

    def start(self) -> None:
        """Begin; without an agent file there is nobody to tell."""
        if self._agent_file is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._repeat(self._agent_file))

    def changed(self) -> None:
        """Tell the agent now instead of at the next second."""
        self._changed.set()

    async def stop(self) -> None:
        """Tell the agent a last time, as well as that goes, and be silent."""
        if self._task is None or self._agent_file is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        await self._tell(self._agent_file)

    async def _repeat(self, agent_file: Path) -> None:
        while True:
            self._changed.clear()
            await self._tell(agent_file)
            try:
                async with asyncio.timeout(_INTERVAL_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _tell(self, agent_file: Path) -> None:
        try:
            await post(agent_file, REGISTRATION_PATH, encode(self._current()))
        except (AgentAway, OSError, TimeoutError) as error:
            # Once per absence: this happens every second while the agent restarts.
            if not self._away:
                log.warning("agent.away", reason=str(error) or type(error).__name__)
            self._away = True
        else:
            if self._away:
                log.info("agent.back")
            self._away = False
