"""`raymart-provider doctor`: what is right and wrong with this machine as a node, and what to do about it."""

import http.client
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

from raymart_providers.errors import ProviderError
from raymart_providers.identity import NodeKey, load_enrolment
from raymart_providers.inventory import gpus, hardware
from raymart_providers.link.server_address import link_url
from raymart_providers.state_dir import StateDir
from raymart_providers.status import AgentReport, ask_agent

_HTTP_TIMEOUT_S = 5.0
_SKEW_S_MAX = 5.0
_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor's table."""

    check: str
    result: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def examine(state: StateDir, *, server: str | None) -> Iterator[Check]:
    """Every check, in the order in which a new provider meets the problems. `server` overrides the kept one."""
    yield from _machine()
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
        yield from _marketplace(address)
    yield from _agent(state)


def _machine() -> Iterator[Check]:
    machine = hardware()
    yield Check(
        check="machine",
        result="ok",
        found=f"{machine.cpu_count} x {machine.cpu_model}, {machine.memory_bytes / _GIB:.1f} GiB",
    )
    found = gpus()
    if found:
        models = ", ".join(f"{gpu.model} {gpu.memory_bytes / _GIB:.0f} GiB" for gpu in found)
        yield Check(check="gpu", result="ok", found=f"{models} (driver {found[0].driver})")
    else:
        yield Check(
            check="gpu",
            result="warn",
            found="NVML finds no GPU; only CPU engines can run",
            fix="if there is one, install NVIDIA's driver until `nvidia-smi` lists it",
        )


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


def _marketplace(server: str) -> Iterator[Check]:
    try:
        url = urlsplit(link_url(server, allow_plaintext=True))
    except ProviderError as error:
        yield Check(check="marketplace", result="fail", found=str(error), fix="correct --server")
        return
    encrypted = url.scheme == "wss"
    kind = http.client.HTTPSConnection if encrypted else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_HTTP_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        date = response.getheader("Date")
        response.read()
    except (OSError, http.client.HTTPException) as error:
        yield Check(
            check="marketplace",
            result="fail",
            found=f"{server} cannot be reached: {error}",
            fix="check the address, DNS, the firewall's outbound rules and the proxy variables",
        )
        return
    finally:
        connection.close()
    ok = response.status == 200
    yield Check(
        check="marketplace",
        result="ok" if ok else "warn",
        found=f"{server} answers {response.status}",
        fix="" if ok else "the marketplace is not well; try later",
    )
    if date is not None:
        yield _clock(time.time() - parsedate_to_datetime(date).timestamp())


def _clock(skew_s: float) -> Check:
    if abs(skew_s) <= _SKEW_S_MAX:
        return Check(check="clock", result="ok", found=f"within {_SKEW_S_MAX:g} s of the marketplace's")
    return Check(
        check="clock",
        result="warn",
        found=f"{skew_s:+.0f} s off the marketplace's; the link works, but logs will not line up",
        fix="turn on time synchronisation (`timedatectl set-ntp true`)",
    )


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
    if report.role == "node":
        yield _replicas(report, state)


def _replicas(report: AgentReport, state: StateDir) -> Check:
    ready = [replica for replica in report.replicas if replica.state == "ready"]
    if ready:
        return Check(check="replicas", result="ok", found=f"{len(ready)} ready")
    return Check(
        check="replicas",
        result="warn",
        found="no replica is registered with this agent",
        fix=f"set RAYMART_AGENT_FILE={state.agent_file} for this machine's Ray node; "
        "then see whether an offer is open and what the pool controller reports",
    )


def _try(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except ProviderError as error:
        return Check(check=name, result="fail", found=str(error), fix="follow what it says")
