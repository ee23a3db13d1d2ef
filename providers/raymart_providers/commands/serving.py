"""`join` and `controller`: a machine serves, or keeps a pool's placements, until SIGTERM or Ctrl-C."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop
from websockets.exceptions import WebSocketException

from raymart_core.logs import configure_logs
from raymart_providers.agent import NodeAgent
from raymart_providers.benchmark import BenchmarkDesk, WorkerProcess
from raymart_providers.commands.shared import (
    DEFAULT_CONTROLLER_STATE,
    DEFAULT_STATE,
    PlaintextOption,
    RayHostOption,
    ServerOption,
    StateOption,
    told_in_one_line,
)
from raymart_providers.controller import PoolController
from raymart_providers.doctor import preflight
from raymart_providers.duty import Duty
from raymart_providers.errors import ProviderError
from raymart_providers.joining import Joining, Runnable, serve
from raymart_providers.link.client import enrol
from raymart_providers.link.handshake import BadPeer, Credentials
from raymart_providers.model_cache import ModelHost
from raymart_providers.placement_keeper import PlacementKeeper
from raymart_providers.pool_process import PoolProcess
from raymart_providers.preflight import marketplace_checks
from raymart_providers.ray_process import MachineRay, RayOptions, ray_options
from raymart_providers.ray_process.house_head import HeadStore, house_head
from raymart_providers.ray_process.machine_ray import worker_command
from raymart_providers.ray_process.options import LOOPBACK
from raymart_providers.service_unit import hand_over, here, installed
from raymart_providers.settings import AgentSettings
from raymart_providers.state_dir import StateDir
from raymart_providers.tables import print_checks
from raymart_providers.telemetry import Sampler, TelemetryReporter

log = structlog.get_logger()

NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of this node, unique in its pool; kept after the first join."),
]
TokenOption = Annotated[str | None, typer.Option("--token", help="One-time join token (visible in `ps`).")]
TokenFileOption = Annotated[
    Path | None, typer.Option("--token-file", help="File with the one-time join token.")
]


class RayMode(StrEnum):
    """Whose Ray serves on this machine."""

    AUTO = "auto"
    """The agent starts what the machine's pool asks for."""
    NONE = "none"
    """None of the agent's: somebody else runs the pool's Ray and its controller."""


def join(
    *,
    state_dir: StateOption = DEFAULT_STATE,
    server: ServerOption = None,
    name: NameOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Let the gateway reach replicas itself (house pools only).")
    ] = False,
    allow_plaintext: PlaintextOption = False,
    ray: Annotated[
        RayMode,
        typer.Option("--ray", help="auto: run the Ray that the pool asks for; none: you run it yourself."),
    ] = RayMode.AUTO,
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", help="host:port of another of your machines' Ray head, to join it."),
    ] = None,
    ray_host: RayHostOption = LOOPBACK,
    ray_token_file: Annotated[
        Path | None, typer.Option("--ray-token-file", help="With --ray-address: that head's `ray/token`.")
    ] = None,
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=1, help="CPUs that Ray may give to replicas; default all.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Join even though a check of this machine fails.")
    ] = False,
    install_service: Annotated[
        bool,
        typer.Option(
            "--install-service", help="Enrol, then serve as a hardened systemd unit, now and at each boot."
        ),
    ] = False,
    service_user: Annotated[
        str | None, typer.Option("--service-user", help="Account that the unit runs as; default who asks.")
    ] = None,
) -> None:
    """Check and enrol this machine (the first time, with a join token), then serve until SIGTERM or Ctrl-C."""
    settings = AgentSettings()
    joining = Joining(
        state_dir, server, name, token, token_file, role="node", allow_plaintext=allow_plaintext
    )
    with told_in_one_line():
        options = ray_options(
            host=ray_host, head=ray_address, token_path=ray_token_file, cpus=cpus, direct=direct
        )
        if install_service:
            arguments = _arguments(options, ray, allow_plaintext=allow_plaintext)
            _install(joining, settings, arguments, ray_host=ray_host, force=force, user=service_user)
            return
        serve(
            lambda credentials, url: _agent(
                credentials, url, settings, options if ray is RayMode.AUTO else None, direct=direct
            ),
            settings,
            joining,
            check=lambda credentials: _check_machine(credentials, settings, ray_host=ray_host, force=force),
        )


def _install(
    joining: Joining,
    settings: AgentSettings,
    arguments: tuple[str, ...],
    *,
    ray_host: str,
    force: bool,
    user: str | None,
) -> None:
    """Raises: ProviderError."""
    configure_logs(process="raymart-node", level="ERROR")
    state = StateDir(joining.state_dir.resolve())
    with state.hold():
        credentials, url = joining.credentials(settings)
        _check_machine(credentials, settings, ray_host=ray_host, force=force)
        try:
            uvloop.run(enrol(url, credentials))
        except (OSError, WebSocketException, BadPeer) as error:
            raise ProviderError(
                f"the marketplace at {url} could not be reached ({error}); try again"
            ) from None
    unit = here(
        name=credentials.name,
        arguments=(f"--state-dir={state.root}", *arguments),
        settings=settings,
        state=state,
        gpus=bool(credentials.hardware.gpus),
        user=user,
    )
    if user is not None:
        hand_over(state.root, user)
    path = installed(unit)
    print(f"{credentials.name} serves as {path.name} ({path}); `systemctl status {path.name}` shows it.")


def _arguments(options: RayOptions, ray: RayMode, *, allow_plaintext: bool) -> tuple[str, ...]:
    """What the unit's `join` is told beside its state directory, which keeps the rest."""
    return (
        f"--ray={ray.value}",
        f"--ray-host={options.host}",
        *((f"--ray-address={options.head}",) if options.head is not None else ()),
        *((f"--ray-token-file={options.token_path}",) if options.token_path is not None else ()),
        *((f"--cpus={options.cpus}",) if options.cpus is not None else ()),
        *(("--direct",) if options.direct else ()),
        *(("--allow-plaintext",) if allow_plaintext else ()),
    )


def _agent(
    credentials: Credentials, url: str, settings: AgentSettings, ray: RayOptions | None, *, direct: bool
) -> NodeAgent:
    """The machine's agent; without options for it, it runs no Ray."""

    def models(on_change: Callable[[], None]) -> ModelHost:
        return ModelHost(
            settings.model_cache or credentials.state.models,
            quota_bytes=settings.model_cache_bytes,
            on_change=on_change,
            artifact_host=settings.artifact_host,
            unsealed=settings.unsealed_dir,
            memory=settings.memory_dir,
            streaming=settings.stream_weights,
            # Who speaks to the marketplace in clear may fetch in clear.
            plaintext=url.startswith("ws://"),
        )

    return NodeAgent(
        url=url,
        credentials=credentials,
        direct=direct,
        drain_s=settings.drain_s,
        models=models,
        ray=None if ray is None else _own_ray(credentials, settings, ray),
        duties=_machine_duties(credentials, settings.model_cache),
    )


def _own_ray(credentials: Credentials, settings: AgentSettings, options: RayOptions) -> MachineRay:
    return MachineRay(
        state=credentials.state,
        name=credentials.name,
        options=options,
        gpus=[gpu.uuid for gpu in credentials.hardware.gpus],
        interval_s=settings.controller_interval_s,
    )


def _check_machine(credentials: Credentials, settings: AgentSettings, *, ray_host: str, force: bool) -> None:
    """Before a machine enrols it must be able to serve; later only its log is told. Raises: ProviderError."""
    checks = list(preflight(credentials.state, settings, ray_host=ray_host))
    first = credentials.join_token is not None
    failed = [check for check in checks if check.result == "fail"]
    if first:
        # A marketplace that is away is waited for, as at every later start.
        checks += marketplace_checks(credentials.server)
    for check in checks:
        if check.result != "ok":
            log.warning(
                "preflight.check", check=check.check, result=check.result, found=check.found, fix=check.fix
            )
    if failed and first and not force:
        print_checks(checks)
        raise ProviderError(
            f"this machine cannot serve: {'; '.join(f'{check.check}: {check.found}' for check in failed)} "
            "(nothing was changed and the join token is not spent; mend it, or use --force)"
        )


def _machine_duties(credentials: Credentials, model_cache: Path | None) -> tuple[Duty, ...]:
    """Benchmarks and telemetry; of the disk that models are kept on."""
    folder = model_cache if model_cache is not None and model_cache.is_dir() else credentials.state.root
    cards = frozenset(gpu.uuid for gpu in credentials.hardware.gpus)
    return (
        BenchmarkDesk(WorkerProcess(folder)),
        TelemetryReporter(Sampler(folder=folder, gpu_uuids=cards)),
    )


def controller(
    *,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="host:port of a Ray head that you run yourself.")
    ] = None,
    ray_host: Annotated[
        str | None,
        typer.Option("--ray-host", help="Run the house pool's Ray head here, on this private address."),
    ] = None,
    head_redis: Annotated[
        str | None,
        typer.Option(help="host:port of a Redis of the pool's own, so that its head may be killed."),
    ] = None,
    head_redis_password_file: Annotated[
        Path | None, typer.Option(help="File with that Redis' password.")
    ] = None,
    state_dir: StateOption = DEFAULT_CONTROLLER_STATE,
    server: ServerOption = None,
    name: NameOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    allow_plaintext: PlaintextOption = False,
) -> None:
    """Make the pool's Ray Serve run what the marketplace wants, until SIGTERM or Ctrl-C.

    With --ray-host it runs the pool's Ray head, too.
    """
    settings = AgentSettings()
    joining = Joining(
        state_dir, server, name, token, token_file, role="controller", allow_plaintext=allow_plaintext
    )
    store = (
        None if head_redis is None else HeadStore(address=head_redis, password_file=head_redis_password_file)
    )
    with told_in_one_line():
        if ray_host is not None and ray_address is None:
            host = ray_options(host=ray_host, head=None, token_path=None, cpus=None).host
            make = _with_head(settings, host, store)
        elif ray_address is not None and ray_host is None:
            make = _beside_head(settings, ray_address)
        else:
            raise ProviderError(
                "give --ray-host to run the pool's head here, or --ray-address of one you run"
            )
        serve(make, settings, joining)


def _with_head(
    settings: AgentSettings, host: str, store: HeadStore | None
) -> Callable[[Credentials, str], Runnable]:
    def make(credentials: Credentials, url: str) -> Runnable:
        head, keeper = house_head(
            credentials.state,
            name=credentials.name,
            host=host,
            store=store,
            interval_s=settings.controller_interval_s,
        )
        return PoolController(url=url, credentials=credentials, keeper=keeper, head=head)

    return make


def _beside_head(settings: AgentSettings, ray_address: str) -> Callable[[Credentials, str], Runnable]:
    def make(credentials: Credentials, url: str) -> Runnable:
        pool = PoolProcess(worker_command(ray_address))
        keeper = PlacementKeeper(pool, interval_s=settings.controller_interval_s)
        return PoolController(url=url, credentials=credentials, keeper=keeper)

    return make
