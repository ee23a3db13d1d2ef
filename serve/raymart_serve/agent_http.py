"""How a replica speaks to the node agent of its machine: HTTP on loopback, where and with which token the agent file says.

The file is read anew each time, because a restarted agent has another port and token.
"""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from raymart_core.errors import RaymartError

_TIMEOUT_S = 3.0
_ANSWER_BYTES_MAX = 16 * 1024 * 1024


class AgentFile(msgspec.Struct, frozen=True):
    """What the agent writes for the replicas of its machine, readable only by its user."""

    url: str
    """http://127.0.0.1:<port>."""
    token: str


class AgentAway(RaymartError):
    """The agent cannot be told: no file, no listener, or a refusal."""


async def post(agent_file: Path, path: str, body: bytes) -> bytes:
    """Send JSON to the agent and return its answer's body. Raises: AgentAway, OSError, TimeoutError."""
    agent = _read(agent_file)
    target = urlsplit(agent.url)
    if target.scheme != "http" or target.hostname is None or target.port is None:
        raise AgentAway("the agent file's url is not of the form http://<host>:<port>")
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {target.netloc}\r\nAuthorization: Bearer {agent.token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode("ascii") + body)
            await writer.drain()
            return await _answer(reader)
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """The body of an answer that went well. Raises: AgentAway."""
    status_line = await reader.readline()
    _, _, rest = status_line.partition(b" ")
    if not rest.startswith(b"2"):
        raise AgentAway(f"the agent answered {rest[:40].decode('latin-1').strip() or 'nothing'}")
    length = 0
    while (line := await reader.readline()) not in {b"\r\n", b""}:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    if length > _ANSWER_BYTES_MAX:
        raise AgentAway(f"the agent's answer has {length} bytes, more than {_ANSWER_BYTES_MAX}")
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise AgentAway("the agent left in mid-answer") from error


def _read(agent_file: Path) -> AgentFile:
    try:
        return msgspec.json.decode(agent_file.read_bytes(), type=AgentFile)
    except FileNotFoundError as error:
        raise AgentAway("the agent file does not exist yet") from error
    except msgspec.DecodeError as error:
        raise AgentAway(f"the agent file is not what it should be: {error}") from error
