"""`raymart up`, `raymart demo`, `raymart doctor`: the entry points that the operator CLI picks up."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console as RichConsole
from rich.table import Table

from raymart_local.demo.run import run_demo
from raymart_local.doctor import findings
from raymart_local.errors import LocalError
from raymart_local.logs import Console
from raymart_local.settings import LocalSettings
from raymart_local.stack import RunningStack, running_stack

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Where the API listens (RAYMART_PORT).")]
DataDir = Annotated[Path | None, typer.Option(help="Where the stack keeps its data (RAYMART_DATA_DIR).")]


def up(port: Port = None, data_dir: DataDir = None) -> None:
    """Run the whole product on this machine, in the foreground, until Ctrl-C."""
    _run(_up(_settings(port, data_dir)))


def demo(data_dir: DataDir = None) -> None:
    """Sell real tokens from two providers, kill a machine, pay, check the books, stop; exit status 0 when all is true."""
    _run(run_demo(_settings(None, data_dir)))


def doctor(port: Port = None, data_dir: DataDir = None) -> None:
    """Check what `raymart up` needs on this machine; exit status 1 when something is missing."""
    table = Table("check", "result", "fix", title="raymart doctor")
    found = findings(_settings(port, data_dir))
    for finding in found:
        mark = "[green]ok[/]" if finding.is_ok else "[red]no[/]"
        table.add_row(finding.check, f"{mark} {finding.result}", "" if finding.is_ok else finding.fix)
    RichConsole().print(table)
    if not all(finding.is_ok for finding in found):
        raise typer.Exit(1)


async def _up(settings: LocalSettings) -> None:
    async with running_stack(settings, environment=os.environ, console=Console()) as stack:
        _greet(stack, has_own_chain=not settings.solana_rpc_url)
        await asyncio.Event().wait()


def _settings(port: int | None, data_dir: Path | None) -> LocalSettings:
    given = {"port": port, "data_dir": data_dir}
    return LocalSettings().model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )


def _greet(stack: RunningStack, *, has_own_chain: bool) -> None:
    accounts = json.loads(stack.layout.credentials.read_text())
    customer, admin = accounts["customer"], accounts["admin"]
    people = [("customer", customer), *(("provider", one) for one in accounts["providers"]), ("admin", admin)]
    table = Table(box=None, show_header=False, pad_edge=False, title="Raymart is ready", title_justify="left")
    table.add_row("API", f"{stack.base_url}/v1")
    table.add_row("API key", customer["api_key"])
    table.add_row("GraphQL", f"{stack.base_url}/graphql")
    for role, account in people:
        table.add_row(role, f"{account['email']}  {account['password']}")
    table.add_row("all accounts", str(_short(stack.layout.credentials)))
    if has_own_chain:
        chain = json.loads(stack.layout.solana_chain.read_text())
        table.add_row("Solana", f"{chain['rpc_url']}  (a development chain)")
    table.add_row("logs", str(_short(stack.layout.logs)))
    # As wide as it needs: a key that is broken into two lines cannot be copied.
    RichConsole(width=200).print(table, "", highlight=False)
    RichConsole().print(
        f"Ready after {stack.ready_after_s:.0f} s. [bold]Ctrl-C stops everything[/]; the data stays."
    )


def _short(path: Path) -> Path:
    """Relative to where we are, when it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _run(work: Coroutine[None, None, None]) -> None:
    """Run `work` until it ends or a signal asks to stop. A LocalError is one line and exit status 1."""
    try:
        asyncio.run(_until_signalled(work))
    except LocalError as error:
        sys.stderr.write(f"raymart: {error}\n")
        raise typer.Exit(1) from None


async def _until_signalled(work: Coroutine[None, None, None]) -> None:
    """Cancel `work` at the first signal; later ones change nothing, for stopping has begun."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    asked: list[signal.Signals] = []

    def ask(number: signal.Signals) -> None:
        if not asked:
            sys.stdout.write("\nstopping; this takes a few seconds\n")
            sys.stdout.flush()
            task.cancel()
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ask, number)
    try:
        await task
    except asyncio.CancelledError:
        if not asked:
            raise
