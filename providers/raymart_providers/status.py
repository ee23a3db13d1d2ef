"""What a running agent says of itself, and how `raymart-provider status` asks it."""

import http.client
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from raymart_providers.errors import AgentAway, ProviderError
from raymart_providers.loopback import read_agent_file
from raymart_providers.state_dir import StateDir

STATUS_PATH = "/v1/status"
_ASK_TIMEOUT_S = 5.0


class LinkReport(msgspec.Struct, frozen=True):
    """The link, as the agent sees it."""

    state: str
    since: float
    """Unix time of the last change of `state`."""
    server: str
    pool: str | None
    error: str | None
    failures: int
    clock_skew_ms: int | None


class ReplicaReport(msgspec.Struct, frozen=True):
    """One replica on this machine."""

    replica_id: str
    model: str
    state: str
    running: int
    capacity: int


class PlacementReport(msgspec.Struct, frozen=True):
    """One placement that a pool controller keeps."""

    placement_id: str
    node: str
    model: str
    state: str
    replicas: int
    reason: str


class ModelReport(msgspec.Struct, frozen=True):
    """One revision in the node's model cache."""

    revision: str
    """"sha256:<hex>"."""
    engine: str
    stored_bytes: int
    last_used: float
    """Unix time."""
    loaded: bool
    """Whether a replica has it loaded, so that it is not thrown away."""


class AgentReport(msgspec.Struct, frozen=True):
    """Answer of the agent's `GET /v1/status`."""

    name: str
    role: Literal["node", "controller"]
    node_id: str | None
    version: str
    pid: int
    link: LinkReport
    replicas: tuple[ReplicaReport, ...] = ()
    running: int = 0
    """Tunnelled requests in flight."""
    placements: tuple[PlacementReport, ...] = ()
    models: tuple[ModelReport, ...] = ()
    """What the model cache holds, last used first."""


def ask_agent(state: StateDir) -> AgentReport:
    """The running agent's report. Raises: AgentAway, UnsafeFile."""
    try:
        agent = read_agent_file(state.agent_file)
    except FileNotFoundError:
        raise AgentAway(f"no agent has run with {state.root}; start one by `raymart-provider join`") from None
    except ValueError as error:
        raise ProviderError(f"{state.agent_file} is damaged ({error}); restart the agent") from None
    where = urlsplit(agent.url)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("GET", STATUS_PATH, headers={"Authorization": f"Bearer {agent.token}"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise AgentAway(
            f"the agent of {state.root} does not answer ({error}); start it by `raymart-provider join`"
        ) from None
    finally:
        connection.close()
    if response.status != 200:
        raise AgentAway(f"what answers at {agent.url} is not the agent of {state.root}; start it again")
    return msgspec.json.decode(body, type=AgentReport)
