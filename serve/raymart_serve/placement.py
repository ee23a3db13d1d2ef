"""Desired placements into Ray Serve, and what became of them back. Used by the pool controller beside the Ray head.

All calls block and are made from one thread. When the cluster goes away they raise what Ray raises, or never return,
and Ray's client ends the whole process a minute later (facts: seam, section 3): use this in a process of its own.
"""

import os
import socket
import sys
from collections.abc import Sequence

import structlog

from raymart_core.errors import RaymartError
from raymart_core.wire.link import Observed, Placement
from raymart_serve.applications import (
    DEPLOYMENT,
    NODE_LABEL,
    PlacementInvalid,
    application_name,
    schema_of,
)
from raymart_serve.observation import ServeApplication, observed_placement, observed_removal
from raymart_serve.settings import ray_authentication_problem

log = structlog.get_logger()

_PROBE_TIMEOUT_S = 3.0
_CLUSTER_FLAG = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


class PoolUnavailable(RaymartError):
    """The Ray head cannot be reached or used."""


class ServePool:
    """Serve on one Ray cluster. Remembers the placements applied last; all else it asks of Serve."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._applied: dict[str, Placement] = {}
        self._removed: set[str] = set()
        self._refused: dict[str, str] = {}

    def connect(self) -> None:
        """Connect to the head at host:port and start Serve there if it does not run. Raises: PoolUnavailable."""
        problem = ray_authentication_problem()
        if problem is not None:
            raise PoolUnavailable(problem)
        host, _, port = self._address.rpartition(":")
        _probe(host, port)
        if host == "127.0.0.1":
            _keep_driver_on_loopback()
        import ray  # noqa: PLC0415 - heavy, and it reads the flag above when it is imported
        from ray import serve  # noqa: PLC0415

        try:
            ray.init(address=self._address, namespace="raymart", log_to_driver=False, configure_logging=False)
            serve.start(proxy_location="Disabled")
        except (ConnectionError, RuntimeError) as error:
            raise PoolUnavailable(f"the Ray head at {self._address} does not take us: {error}") from error
        log.info("pool.connected", address=self._address)

    def apply(self, placements: Sequence[Placement]) -> None:
        """Make these, and only these, the pool's applications; returns before they run. Idempotent.

        A placement that cannot be described fails alone. One left out is deleted and drains its streams first.
        """
        from ray.serve.context import _get_global_client  # noqa: PLC0415
        from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

        wanted = {placement.placement_id: placement for placement in placements}
        self._refused = {}
        applications = []
        for placement in wanted.values():
            try:
                applications.append(schema_of(placement))
            except PlacementInvalid as error:
                self._refused[placement.placement_id] = str(error)
        schema = {"applications": applications, "proxy_location": "Disabled"}
        # Private, but the public form is the dashboard's HTTP interface, which we do not run. `serve.run` is no
        # substitute: it replaces running replicas even when only their number changes.
        client = _get_global_client()
        assert client is not None
        client.deploy_apps(ServeDeploySchema.model_validate(schema), _blocking=False)
        self._removed = (self._removed | self._applied.keys()) - wanted.keys()
        self._applied = wanted
        log.info("pool.applied", placements=len(wanted), refused=len(self._refused))

    def observe(self) -> tuple[Observed, ...]:
        """What is true of each placement applied, and of each removed one until Serve has it no more."""
        applications, live_nodes = _serve_applications(), _live_nodes()
        observed = [
            Observed(placement_id=name, state="failed", replicas=0, reason=reason)
            for name, reason in self._refused.items()
        ]
        observed += [
            observed_placement(
                placement, applications.get(application_name(placement_id)), live_nodes=live_nodes
            )
            for placement_id, placement in self._applied.items()
            if placement_id not in self._refused
        ]
        removals = []
        for placement_id in sorted(self._removed):
            application = applications.get(application_name(placement_id))
            removals.append(observed_removal(placement_id, application))
            if application is None:
                self._removed.discard(placement_id)
        return (*observed, *removals)

    def close(self) -> None:
        """Leave the cluster; Serve and its replicas go on."""
        import ray  # noqa: PLC0415

        ray.shutdown()


def _serve_applications() -> dict[str, ServeApplication]:
    from ray import serve  # noqa: PLC0415

    found = {}
    for name, application in serve.status().applications.items():
        deployment = application.deployments.get(DEPLOYMENT)
        states = deployment.replica_states if deployment else {}
        found[name] = ServeApplication(
            status=application.status.value,
            # The application's own message only says that a deployment failed; the deployment's says why.
            message=(deployment.message if deployment else "") or application.message,
            replicas_running=sum(count for state, count in states.items() if state == "RUNNING"),
            replicas_total=sum(states.values()),
        )
    return found


def _live_nodes() -> set[str]:
    import ray  # noqa: PLC0415

    nodes: list[dict[str, dict[str, str]]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["Labels"][NODE_LABEL] for node in nodes if node["Alive"] and NODE_LABEL in node["Labels"]}


def _probe(host: str, port: str) -> None:
    # Ray's own client retries a dead address for minutes.
    if not port.isdecimal():
        raise PoolUnavailable(f"the Ray address must be host:port, not {host + ':' + port!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise PoolUnavailable(f"no Ray head listens at {host}:{port} ({error}); start it first") from error


def _keep_driver_on_loopback() -> None:
    """Must come before Ray's first import: it decides there whether 127.0.0.1 may be its own address."""
    if "ray" in sys.modules and os.environ.get(_CLUSTER_FLAG) != "0":
        raise PoolUnavailable(
            "ray was imported before ServePool.connect; connect first, import ray afterwards"
        )
    os.environ[_CLUSTER_FLAG] = "0"
