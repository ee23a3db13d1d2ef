"""Telling the node agent of this machine where the replica is: every second, and at each change.

The agent comes and goes on its own; a replica without one goes on serving whoever knows its address. The agent file
is read anew each time, because a restarted agent has another port and token.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
import structlog

from raymart_core.errors import RaymartError
from raymart_core.wire.replica import encode

log = structlog.get_logger()

REGISTRATION_PATH = "/v1/replicas"
_INTERVAL_S = 1.0
_TIMEOUT_S = 3.0


class ReplicaRegistration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replica tells the agent."""

    replica_id: str
    revision: str
    """Manifest digest, "sha256:<hex>"."""
    model: str
    """Model slug, such as "raymart/demo-chat"."""
    engine: str
    address: str
    """host:port of the replica's own HTTP server."""
    secret: str
    """Bearer token of that server."""
    pid: int
    capacity: int
    context_length: int
    """Tokens of prompt and completion together."""
    state: Literal["ready", "draining", "gone"] = "ready"


decode_registration = msgspec.json.Decoder(ReplicaRegistration).decode


class AgentFile(msgspec.Struct, frozen=True):
    """What the agent writes for the replicas of its machine, readable only by its user."""

    url: str
    """http://127.0.0.1:<port>."""
    token: str


class AgentAway(RaymartError):
    """The agent cannot be told: no file, no listener, or a refusal."""


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
            async with asyncio.timeout(_TIMEOUT_S):
                await _post(_read(agent_file), encode(self._current()))
        except (AgentAway, OSError, TimeoutError) as error:
            # Once per absence: this happens every second while the agent restarts.
            if not self._away:
                log.warning("agent.away", reason=str(error) or type(error).__name__)
            self._away = True
        else:
            if self._away:
                log.info("agent.back")
            self._away = False


def _read(agent_file: Path) -> AgentFile:
    try:
        return msgspec.json.decode(agent_file.read_bytes(), type=AgentFile)
    except FileNotFoundError as error:
        raise AgentAway("the agent file does not exist yet") from error
    except msgspec.DecodeError as error:
        raise AgentAway(f"the agent file is not what it should be: {error}") from error


async def _post(agent: AgentFile, body: bytes) -> None:
    target = urlsplit(agent.url)
    if target.scheme != "http" or target.hostname is None or target.port is None:
        raise AgentAway("the agent file's url is not of the form http://<host>:<port>")
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    try:
        head = (
            f"POST {REGISTRATION_PATH} HTTP/1.1\r\nHost: {target.netloc}\r\nAuthorization: Bearer {agent.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode("ascii") + body)
        await writer.drain()
        status_line = await reader.readline()
    finally:
        writer.close()
    _, _, rest = status_line.partition(b" ")
    if not rest.startswith(b"2"):
        raise AgentAway(f"the agent answered {rest[:40].decode('latin-1').strip() or 'nothing'}")
