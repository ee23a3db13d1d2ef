"""Desired placements into Ray Serve, and what became of them back. Used by the pool controller beside the Ray head.

All calls block and are made from one thread. When the cluster goes away they raise what Ray raises, or never return,
and Ray's client ends the whole process a minute later (facts: seam, section 3): use this in a process of its own.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module

import msgspec
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
from raymart_serve.autoscaling import DEMAND_KEY, DEMAND_NAMESPACE, demand_value
from raymart_serve.cold_starts import ColdStarts
from raymart_serve.crash_loops import CrashLoops
from raymart_serve.head_probe import wait_for_head
from raymart_serve.observation import (
    PoolSurvey,
    ServeApplication,
    last_line,
    observed_placement,
    observed_removal,
)
from raymart_serve.ray_tuning import tune
from raymart_serve.settings import ray_authentication_problem

log = structlog.get_logger()

_STARTING = frozenset({"STARTING", "RECOVERING", "PENDING_MIGRATION"})
"""Serve's states of a replica that is on its way."""
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
        self._cold_starts = ColdStarts()
        self._crash_loops = CrashLoops()
        self._schemas: dict[str, dict[str, object]] = {}
        self._paused: dict[str, str] = {}
        self._survey = PoolSurvey()

    def connect(self, *, patience_s: float = 0.0) -> None:
        """Connect to the head at host:port and start Serve there if it does not run. Raises: PoolUnavailable.

        A head that does not listen yet is waited for; with any patience, what speaks to it is loaded meanwhile.
        """
        problem = ray_authentication_problem()
        if problem is not None:
            raise PoolUnavailable(problem)
        host, _, port = self._address.rpartition(":")
        if patience_s > 0:
            _load_ray(host)
        problem = wait_for_head(host, port, patience_s=patience_s)
        if problem is not None:
            raise PoolUnavailable(problem)
        _load_ray(host)
        import ray  # noqa: PLC0415 - heavy, see _load_ray
        from ray import serve  # noqa: PLC0415

        try:
            ray.init(address=self._address, namespace="raymart", log_to_driver=False, configure_logging=False)
            serve.start(proxy_location="Disabled")
        except (ConnectionError, RuntimeError) as error:
            raise PoolUnavailable(f"the Ray head at {self._address} does not take us: {error}") from error
        log.info("pool.connected", address=self._address)

    def apply(self, placements: Sequence[Placement]) -> None:
        """Make these, and only these, the pool's applications; returns before they run. Idempotent.

        A placement that cannot be described fails alone. One left out is deleted and drains its streams first. One in a
        crash loop waits for the end of its pause.
        """
        wanted = {placement.placement_id: placement for placement in placements}
        self._refused = {}
        self._schemas = {}
        self._crash_loops.keep(wanted.keys())
        for placement in wanted.values():
            try:
                self._schemas[placement.placement_id] = schema_of(placement)
            except PlacementInvalid as error:
                self._refused[placement.placement_id] = str(error)
            before = self._applied.get(placement.placement_id)
            if before is not None and not _same_replicas(before, placement):
                self._crash_loops.changed(placement.placement_id)
        self._deploy()
        self._removed = (self._removed | self._applied.keys()) - wanted.keys()
        self._applied = wanted
        self._cold_starts.keep(wanted.keys())
        for placement_id, placement in wanted.items():
            if placement.replicas_min and placement_id not in self._refused:
                self._cold_starts.asked(placement_id, now=time.monotonic())
        log.info("pool.applied", placements=len(wanted), refused=len(self._refused), paused=len(self._paused))

    def _deploy(self) -> None:
        """Give Serve everything but what is paused."""
        from ray.serve.context import _get_global_client  # noqa: PLC0415
        from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

        self._paused = dict(self._crash_loops.paused(now=time.monotonic()))
        applications = [schema for name, schema in self._schemas.items() if name not in self._paused]
        # Private, but the public form is the dashboard's HTTP interface, which we do not run. `serve.run` is no
        # substitute: it replaces running replicas even when only their number changes.
        client = _get_global_client()
        assert client is not None
        wanted = ServeDeploySchema.model_validate(
            {"applications": applications, "proxy_location": "Disabled"}
        )
        client.deploy_apps(wanted, _blocking=False)

    def demand(self, replicas: Mapping[str, float]) -> None:
        """Have each placement scaled to what waits for it, in replicas; what is left out has nothing that waits.

        Replaces what was said before, and holds for `DEMAND_TTL_S`: repeat it while somebody waits. Placements that were
        not applied are ignored.
        """
        from ray.experimental.internal_kv import _internal_kv_put  # noqa: PLC0415

        wanted = {name: count for name, count in replicas.items() if name in self._applied and count > 0}
        for placement_id in wanted:
            self._cold_starts.asked(placement_id, now=time.monotonic())
        value = demand_value(
            {application_name(name): count for name, count in wanted.items()}, now=time.time()
        )
        _internal_kv_put(DEMAND_KEY, value, overwrite=True, namespace=DEMAND_NAMESPACE)

    @property
    def survey(self) -> PoolSurvey:
        """What else `observe` saw."""
        return self._survey

    def observe(self) -> tuple[Observed, ...]:
        """What is true of each placement applied, and of each removed one until Serve has it no more."""
        applications, live_nodes = _serve_applications(), _live_nodes()
        self._look_for_crashes(applications)
        known = {application_name(name) for name in (*self._applied, *self._removed)}
        self._survey = PoolSurvey(
            ray_nodes=tuple(sorted(live_nodes)), unknown=tuple(sorted(applications.keys() - known))
        )
        observed = [
            Observed(placement_id=name, state="failed", replicas=0, reason=reason)
            for name, reason in self._refused.items()
        ]
        observed += [
            self._observed(placement, applications.get(application_name(placement_id)), live_nodes)
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

    def _observed(
        self, placement: Placement, application: ServeApplication | None, live_nodes: set[str]
    ) -> Observed:
        placement_id = placement.placement_id
        restarts = self._crash_loops.restarts(placement_id)
        if placement_id in self._paused:
            return Observed(
                placement_id=placement_id,
                state="failed",
                replicas=0,
                reason=self._paused[placement_id],
                restarts=restarts,
            )
        seen = observed_placement(placement, application, live_nodes=live_nodes)
        return self._timed(msgspec.structs.replace(seen, restarts=restarts))

    def _look_for_crashes(self, applications: Mapping[str, ServeApplication]) -> None:
        """Count what died, and give Serve other applications when a pause begins or ends."""
        now = time.monotonic()
        for placement_id in self._schemas:
            application = applications.get(application_name(placement_id))
            if application is not None and placement_id not in self._paused:
                self._crash_loops.seen(
                    placement_id,
                    replicas=application.replicas,
                    target=application.target,
                    message=last_line(application.message),
                    now=now,
                )
        if self._crash_loops.paused(now=now).keys() != self._paused.keys():
            before = self._paused
            self._deploy()
            for placement_id in self._paused.keys() - before.keys():
                log.warning("placement.paused", placement_id=placement_id, reason=self._paused[placement_id])

    def _timed(self, seen: Observed) -> Observed:
        took_ms = self._cold_starts.seen(
            seen.placement_id, running=seen.replicas, starting=seen.starting, now=time.monotonic()
        )
        return msgspec.structs.replace(seen, cold_start_ms=took_ms)

    def close(self) -> None:
        """Leave the cluster; Serve and its replicas go on."""
        import ray  # noqa: PLC0415

        ray.shutdown()


def _same_replicas(one: Placement, other: Placement) -> bool:
    """Whether going from one to the other lets replicas live: only their number may differ."""
    return (
        msgspec.structs.replace(
            one, replicas_min=other.replicas_min, replicas_max=other.replicas_max, idle_s=other.idle_s
        )
        == other
    )


def _serve_applications() -> dict[str, ServeApplication]:
    from ray.serve.context import _get_global_client  # noqa: PLC0415
    from ray.serve.schema import ServeInstanceDetails  # noqa: PLC0415

    client = _get_global_client()
    assert client is not None
    # What `serve.status` asks too, before it leaves the replicas out.
    details = ServeInstanceDetails(**client.get_serve_details())
    found = {}
    for name, application in details.applications.items():
        deployment = application.deployments.get(DEPLOYMENT)
        replicas = {one.replica_id: one.state.value for one in deployment.replicas} if deployment else {}
        states = list(replicas.values())
        found[name] = ServeApplication(
            status=application.status.value,
            # The application's own message only says that a deployment failed; the deployment's says why.
            message=(deployment.message if deployment else "") or application.message,
            replicas_running=states.count("RUNNING"),
            replicas_total=len(states),
            replicas_starting=sum(state in _STARTING for state in states),
            replicas=replicas,
            target=deployment.target_num_replicas if deployment else 0,
        )
    return found


def _live_nodes() -> set[str]:
    import ray  # noqa: PLC0415

    nodes: list[dict[str, dict[str, str]]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["Labels"][NODE_LABEL] for node in nodes if node["Alive"] and NODE_LABEL in node["Labels"]}


def _load_ray(host: str) -> None:
    """Import Ray, a second's work; 127.0.0.1 may be its own address only when it is told before. Raises: PoolUnavailable."""
    tune(os.environ)
    if host == "127.0.0.1":
        _keep_driver_on_loopback()
    import_module("ray.serve")


def _keep_driver_on_loopback() -> None:
    """Must come before Ray's first import: it decides there whether 127.0.0.1 may be its own address."""
    if "ray" in sys.modules and os.environ.get(_CLUSTER_FLAG) != "0":
        raise PoolUnavailable(
            "ray was imported before ServePool.connect; connect first, import ray afterwards"
        )
    os.environ[_CLUSTER_FLAG] = "0"
