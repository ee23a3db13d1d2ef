"""What a running agent says of itself, and how `raymart-provider status` asks it."""

import http.client
import time
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from raymart_providers.errors import AgentAway, ProviderError
from raymart_providers.loopback import read_agent_file
from raymart_providers.state_dir import StateDir

STATUS_PATH = "/v1/status"
DRAIN_PATH = "/v1/drain"
ROTATE_PATH = "/v1/rotate-key"
_ASK_TIMEOUT_S = 5.0
_OUTCOME_TIMEOUT_S = 60.0
"""More than the agent waits for the marketplace, with another ask or two before this one."""
_OUTCOME_POLL_S = 0.1


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


class RayReport(msgspec.Struct, frozen=True):
    """The machine's own Ray."""

    pool_kind: str
    """house or provider; empty before the marketplace has said it."""
    role: str
    """head or node; empty before that."""
    state: str
    """waiting, starting, running or stopped."""
    address: str
    """host:port of the cluster's head."""
    pid: int | None
    starts: int
    error: str
    """Why it does not run."""


class StandingReport(msgspec.Struct, frozen=True):
    """The node's place in the market, as the marketplace told it last."""

    draining: bool
    notice_s: float
    """What still runs after that may be cut."""
    reason: str
    public_key: str
    """Hex."""
    answered: int
    """Asks of the owner that have come to an end since the agent started."""
    problem: str
    """Why the last one came to nothing; empty when it did not."""


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
    ray: RayReport | None = None
    """None where the agent runs no Ray (`--ray none`)."""
    standing: StandingReport | None = None
    """None of a controller."""
    models: tuple[ModelReport, ...] = ()
    """What the model cache holds, last used first."""


def ask_agent(state: StateDir) -> AgentReport:
    """The running agent's report. Raises: AgentAway, UnsafeFile."""
    return msgspec.json.decode(_ask(state, "GET", STATUS_PATH, b""), type=AgentReport)


def tell_agent(state: StateDir, path: str, body: bytes) -> StandingReport:
    """Ask the running agent for something that it asks the marketplace for, and wait for the outcome.

    Raises: ProviderError with the marketplace's reason, AgentAway, UnsafeFile.
    """
    before = _standing(state)
    _ask(state, "POST", path, body)
    deadline = time.monotonic() + _OUTCOME_TIMEOUT_S
    while (now := _standing(state)).answered <= before.answered:
        if time.monotonic() > deadline:
            raise ProviderError("the agent has not finished; see `raymart-provider status`")
        time.sleep(_OUTCOME_POLL_S)
    if now.problem:
        raise ProviderError(now.problem)
    return now


def wait_until_idle(state: StateDir, *, timeout_s: float) -> int:
    """Return when no tunnelled request runs, or after `timeout_s`; how many still run. Raises: AgentAway, UnsafeFile."""
    deadline = time.monotonic() + timeout_s
    while (running := ask_agent(state).running) and time.monotonic() < deadline:
        time.sleep(_OUTCOME_POLL_S)
    return running


def _standing(state: StateDir) -> StandingReport:
    standing = ask_agent(state).standing
    if standing is None:
        raise ProviderError(f"{state.root} is a pool controller's; it has no place in the market")
    return standing


def _ask(state: StateDir, method: str, path: str, body: bytes) -> bytes:
    """The running agent's answer. Raises: AgentAway, UnsafeFile, ProviderError."""
    try:
        agent = read_agent_file(state.agent_file)
    except FileNotFoundError:
        raise AgentAway(f"no agent has run with {state.root}; start one by `raymart-provider join`") from None
    except ValueError as error:
        raise ProviderError(f"{state.agent_file} is damaged ({error}); restart the agent") from None
    where = urlsplit(agent.url)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request(method, path, body=body, headers={"Authorization": f"Bearer {agent.token}"})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise AgentAway(
            f"the agent of {state.root} does not answer ({error}); start it by `raymart-provider join`"
        ) from None
    finally:
        connection.close()
    if response.status == 401:
        raise AgentAway(f"what answers at {agent.url} is not the agent of {state.root}; start it again")
    if response.status != 200:
        raise ProviderError(f"the agent refused ({response.status}): {answer.decode(errors='replace')[:300]}")
    return answer
