"""`raymart-provider doctor`: what is right and wrong with this machine as a node, and what to do about it."""

from collections.abc import Callable, Iterator

from raymart_providers.errors import ProviderError
from raymart_providers.identity import NodeKey, load_enrolment
from raymart_providers.inventory import hardware
from raymart_providers.preflight import Check, machine_checks, marketplace_checks
from raymart_providers.settings import AgentSettings
from raymart_providers.state_dir import StateDir
from raymart_providers.status import AgentReport, RayReport, ask_agent


def examine(
    state: StateDir, settings: AgentSettings, *, server: str | None, ray_host: str
) -> Iterator[Check]:
    """Every check, in the order in which a new provider meets the problems. `server` overrides the kept one."""
    yield from preflight(state, settings, ray_host=ray_host)
    yield from _identity(state)
    address = server or _kept_server(state)
    if address is None:
        yield Check(
            check="marketplace",
            result="warn",
            found="no server is known yet",
            fix="pass --server to check it",
        )
    else:
        yield from marketplace_checks(address)
    yield from _agent(state)


def preflight(state: StateDir, settings: AgentSettings, *, ray_host: str) -> Iterator[Check]:
    """The checks of the machine alone, as `join` makes them at each start."""
    models = settings.model_cache or state.models
    machine = hardware(machine_id=settings.machine_id, folder=models, offered=settings.gpus)
    yield from machine_checks(machine, models=models, ray_host=ray_host, offered_gpus=settings.gpus)


def _identity(state: StateDir) -> Iterator[Check]:
    yield _try("node key", lambda: _key(state))
    yield _try("identity", lambda: _enrolment(state))


def _key(state: StateDir) -> Check:
    try:
        NodeKey.load(state.key)
    except FileNotFoundError:
        return Check(
            check="node key",
            result="warn",
            found=f"none at {state.key}",
            fix="`raymart-provider join` makes it",
        )
    return Check(check="node key", result="ok", found=str(state.key))


def _enrolment(state: StateDir) -> Check:
    enrolment = load_enrolment(state.enrolment)
    if enrolment is None:
        return Check(
            check="identity",
            result="warn",
            found="this machine has not enrolled",
            fix="create a join token in the marketplace, then `raymart-provider join --token-file ...`",
        )
    return Check(
        check="identity", result="ok", found=f"{enrolment.role} {enrolment.name!r}, {enrolment.node_id}"
    )


def _kept_server(state: StateDir) -> str | None:
    try:
        enrolment = load_enrolment(state.enrolment)
    except ProviderError:
        return None  # The check of the identity has told of it.
    return enrolment.server if enrolment is not None else None


def _agent(state: StateDir) -> Iterator[Check]:
    try:
        report = ask_agent(state)
    except ProviderError as error:
        yield Check(check="agent", result="fail", found=str(error), fix="start `raymart-provider join`")
        return
    yield Check(check="agent", result="ok", found=f"runs as process {report.pid}, version {report.version}")
    live = report.link.state == "live"
    yield Check(
        check="link",
        result="ok" if live else "fail",
        found=f"{report.link.state} to {report.link.server}"
        + (f"; last error: {report.link.error}" if report.link.error else ""),
        fix="" if live else "the agent retries by itself; see its log",
    )
    if report.ray is not None:
        yield _ray(report.ray, state)
    if report.role == "node":
        yield _replicas(report, state)


def _ray(ray: RayReport, state: StateDir) -> Check:
    runs = f"{ray.role or 'its part'} in the {ray.pool_kind or 'yet unknown'} pool's cluster: {ray.state}"
    if ray.state == "running" and not ray.error:
        return Check(check="ray cluster", result="ok", found=f"{runs}, head {ray.address}")
    return Check(
        check="ray cluster",
        result="warn" if ray.state == "starting" else "fail",
        found=f"{runs}; {ray.error or 'no error yet'}",
        fix=f"see {state.ray / 'ray.log'}; the agent tries again by itself",
    )


def _replicas(report: AgentReport, state: StateDir) -> Check:
    ready = [replica for replica in report.replicas if replica.state == "ready"]
    if ready:
        return Check(check="replicas", result="ok", found=f"{len(ready)} ready")
    return Check(
        check="replicas",
        result="warn",
        found="no replica is registered with this agent",
        fix="see whether an offer is open and what is reported of its placement (`raymart-provider placements`)"
        if report.ray is not None
        else f"set RAYMART_AGENT_FILE={state.agent_file} for this machine's Ray node; "
        "then see whether an offer is open and what the pool controller reports",
    )


def _try(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except ProviderError as error:
        return Check(check=name, result="fail", found=str(error), fix="follow what it says")
