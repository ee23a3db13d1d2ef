"""`raymart-provider`: the composition root of a provider's machine."""

import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, Protocol

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from websockets.exceptions import WebSocketException

from raymart_core.errors import RaymartError
from raymart_core.logs import configure_logs
from raymart_providers.agent import NodeAgent
from raymart_providers.controller import PoolController, worker_command
from raymart_providers.doctor import Check, examine
from raymart_providers.errors import NotEnrolled, ProviderError
from raymart_providers.identity import NodeKey, Role, load_enrolment
from raymart_providers.inventory import hardware
from raymart_providers.leave import leave_marketplace
from raymart_providers.link.handshake import BadPeer, Credentials
from raymart_providers.link.server_address import link_url
from raymart_providers.model_cache import ModelHost
from raymart_providers.pool_process import PoolProcess
from raymart_providers.settings import AgentSettings
from raymart_providers.state_dir import StateDir
from raymart_providers.status import AgentReport, ask_agent
from raymart_serve.models import WeightsUnavailable

app = typer.Typer(
    help="Run this machine as a node of a Raymart marketplace.", no_args_is_help=True, add_completion=False
)

StateOption = Annotated[
    Path, typer.Option("--state-dir", help="Where this node keeps its key and identity; one per node.")
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", help="The marketplace, http(s):// or ws(s)://; kept after the first join."),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of this node, unique in its pool; kept after the first join."),
]
TokenOption = Annotated[str | None, typer.Option("--token", help="One-time join token (visible in `ps`).")]
TokenFileOption = Annotated[
    Path | None, typer.Option("--token-file", help="File with the one-time join token.")
]
PlaintextOption = Annotated[
    bool, typer.Option("--allow-plaintext", help="Allow an unencrypted link to another machine.")
]

_DEFAULT_STATE = Path.home() / ".raymart" / "node"
_DEFAULT_CONTROLLER_STATE = Path.home() / ".raymart" / "controller"


class Output(StrEnum):
    """How a listing is printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]


class _Runnable(Protocol):
    """An agent or a controller."""

    def stop(self) -> None: ...

    async def run(self) -> None: ...


@app.command()
def join(
    *,
    state_dir: StateOption = _DEFAULT_STATE,
    server: ServerOption = None,
    name: NameOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Let the gateway reach replicas itself (house pools only).")
    ] = False,
    allow_plaintext: PlaintextOption = False,
) -> None:
    """Enrol this machine (the first time, with a join token) and serve until SIGTERM or Ctrl-C."""
    settings = AgentSettings()

    def make(credentials: Credentials, url: str) -> _Runnable:
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
            url=url, credentials=credentials, direct=direct, drain_s=settings.drain_s, models=models
        )

    _serve(
        make,
        settings,
        _Joining(state_dir, server, name, token, token_file, role="node", allow_plaintext=allow_plaintext),
    )


@app.command()
def controller(
    *,
    ray_address: Annotated[str, typer.Option("--ray-address", help="host:port of the pool's Ray head.")],
    state_dir: StateOption = _DEFAULT_CONTROLLER_STATE,
    server: ServerOption = None,
    name: NameOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    allow_plaintext: PlaintextOption = False,
) -> None:
    """Make the pool's Ray Serve run what the marketplace wants, until SIGTERM or Ctrl-C."""
    settings = AgentSettings()

    def make(credentials: Credentials, url: str) -> _Runnable:
        return PoolController(
            url=url,
            credentials=credentials,
            pool=PoolProcess(worker_command(ray_address)),
            interval_s=settings.controller_interval_s,
        )

    _serve(
        make,
        settings,
        _Joining(
            state_dir, server, name, token, token_file, role="controller", allow_plaintext=allow_plaintext
        ),
    )


@app.command()
def status(*, state_dir: StateOption = _DEFAULT_STATE, output: OutputOption = Output.TABLE) -> None:
    """Show the running agent's link, replicas and load; exit 1 unless the link is live."""
    try:
        report = ask_agent(StateDir(state_dir))
    except ProviderError as error:
        _fail(error)
    if output is Output.JSON:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _print_report(report)
    if report.link.state != "live":
        raise typer.Exit(1)


@app.command()
def doctor(
    *,
    state_dir: StateOption = _DEFAULT_STATE,
    server: ServerOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check this machine, its identity, the marketplace and the agent; exit 1 when something is broken."""
    # The table is the output; what the checks log is a repetition of it.
    configure_logs(process="doctor", level="ERROR")
    checks = list(examine(StateDir(state_dir), server=server))
    if output is Output.JSON:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        _print_checks(checks)
    if any(check.result == "fail" for check in checks):
        raise typer.Exit(1)


@app.command()
def leave(
    *,
    state_dir: StateOption = _DEFAULT_STATE,
    server: ServerOption = None,
    allow_plaintext: PlaintextOption = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete the key even if the marketplace cannot be told.")
    ] = False,
) -> None:
    """Revoke this node's key at the marketplace and delete it here. Stop the agent first."""
    configure_logs(process="leave", level="ERROR")
    state = StateDir(state_dir)
    try:
        with state.hold():
            enrolment = load_enrolment(state.enrolment)
            if enrolment is None:
                raise NotEnrolled(f"{state_dir} holds no node identity; there is nothing to leave")
            try:
                url = link_url(server or enrolment.server, allow_plaintext=allow_plaintext)
                uvloop.run(leave_marketplace(state, enrolment, url=url))
            except (OSError, WebSocketException, BadPeer) as error:
                if not forget:
                    raise ProviderError(
                        f"the marketplace could not be told ({error}); try again, "
                        "or use --forget and revoke the node in the marketplace"
                    ) from None
            state.forget()
    except ProviderError as error:
        _fail(error)
    print(f"{enrolment.name} has left; its key is gone.")


@dataclasses.dataclass(frozen=True, slots=True)
class _Joining:
    """What `join` and `controller` have in common."""

    state_dir: Path
    server: str | None
    name: str | None
    token: str | None
    token_file: Path | None
    role: Role
    allow_plaintext: bool

    def credentials(self, settings: AgentSettings) -> tuple[Credentials, str]:
        """Who dials, and the URL to dial. Raises: ProviderError."""
        state = StateDir(self.state_dir)
        enrolment = load_enrolment(state.enrolment)
        if enrolment is not None and (enrolment.role, self.name or enrolment.name) != (
            self.role,
            enrolment.name,
        ):
            raise ProviderError(
                f"{self.state_dir} belongs to the {enrolment.role} {enrolment.name!r}; "
                "use another --state-dir for another node"
            )
        server = self.server or (enrolment.server if enrolment else None)
        name = self.name or (enrolment.name if enrolment else None)
        if server is None or name is None:
            raise ProviderError("the first join needs --server, --name and --token-file")
        url = link_url(server, allow_plaintext=self.allow_plaintext)
        join_token = None if enrolment is not None else self._join_token()
        credentials = Credentials(
            state=state,
            key=NodeKey.load_or_create(state.key),
            role=self.role,
            name=name,
            server=server,
            hardware=hardware(machine_id=settings.machine_id),
            join_token=join_token,
        )
        return credentials, url

    def _join_token(self) -> str:
        """The token that the first join spends. Raises: ProviderError when there is none."""
        token = self.token
        if token is None and self.token_file is not None:
            try:
                token = self.token_file.read_text().strip()
            except OSError as error:
                raise ProviderError(
                    f"--token-file {self.token_file} cannot be read: {error.strerror}"
                ) from None
        if not token:
            raise NotEnrolled(
                f"{self.state_dir} holds no node identity; "
                "create a join token in the marketplace and pass it by --token-file"
            )
        return token


def _serve(make: Callable[[Credentials, str], _Runnable], settings: AgentSettings, joining: _Joining) -> None:
    configure_logs(process=f"raymart-{joining.role}", level=settings.log_level)
    state = StateDir(joining.state_dir)
    try:
        with state.hold():
            credentials, url = joining.credentials(settings)
            uvloop.run(_until_signalled(lambda: make(credentials, url)))
    except (ProviderError, WeightsUnavailable) as error:
        _fail(error)


async def _until_signalled(make: Callable[[], _Runnable]) -> None:
    runnable = make()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runnable.stop)
    await runnable.run()


def _print_report(report: AgentReport) -> None:
    console = Console()
    link = report.link
    skew = "" if link.clock_skew_ms is None else f", clock {link.clock_skew_ms:+d} ms"
    console.print(f"{report.role} {report.name}  {report.node_id or 'not enrolled'}  pool {link.pool or '-'}")
    console.print(f"link {link.state} to {link.server}{skew}")
    if link.error:
        console.print(f"last error: {link.error}", markup=False)
    if report.role == "node":
        _print_rows(
            ("replica", "model", "state", "running", "capacity"),
            [
                (
                    replica.replica_id,
                    replica.model,
                    replica.state,
                    str(replica.running),
                    str(replica.capacity),
                )
                for replica in report.replicas
            ],
        )
        _print_rows(
            ("cached revision", "engine", "bytes", "last used", "loaded"),
            [
                (
                    cached.revision,
                    cached.engine,
                    f"{cached.stored_bytes:,}",
                    f"{datetime.fromtimestamp(cached.last_used, UTC):%Y-%m-%d %H:%M}Z",
                    "yes" if cached.loaded else "no",
                )
                for cached in report.models
            ],
        )
    else:
        _print_rows(
            ("placement", "node", "model", "state", "replicas", "reason"),
            [
                (seen.placement_id, seen.node, seen.model, seen.state, str(seen.replicas), seen.reason)
                for seen in report.placements
            ],
        )


def _print_checks(checks: list[Check]) -> None:
    _print_rows(
        ("check", "result", "found", "fix"),
        [(check.check, check.result, check.found, check.fix) for check in checks],
    )


def _print_rows(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*headings)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _fail(error: RaymartError) -> NoReturn:
    print(f"raymart-provider: {error}", file=sys.stderr)
    raise typer.Exit(1) from None


def main() -> None:
    """Entry point of `raymart-provider`."""
    app()
