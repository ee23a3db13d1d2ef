"""Runs the demo: a stack of its own on a fresh data directory and a free port, the story, the statement."""

import os
import time

import httpx
from rich.console import Console as RichConsole
from websockets.exceptions import WebSocketException

from raymart_local.demo.claims import Outcome, claims
from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.statement import print_statement, report, write_report
from raymart_local.demo.story import Story
from raymart_local.errors import DataDirInUse, LocalError
from raymart_local.house_pool import DEMO_NODES
from raymart_local.logs import Console
from raymart_local.ports import LOOPBACK, free_port
from raymart_local.settings import LocalSettings
from raymart_local.stack import running_stack


async def run_demo(settings: LocalSettings) -> None:
    """Tell the story and check its claims; `report.json` says what came of it, also of a failure.

    The demo's data directory is `demo/` below the given one, emptied first.
    Raises: LocalError, when the stack does not run, a step fails or a claim is not true.
    """
    started = time.monotonic()
    own = own_settings(settings)
    report_path = own.data_dir / "report.json"
    console = Console()
    try:
        outcome = await _outcome(own, console)
    except DataDirInUse:
        raise  # The report there is the other demo's.
    except LocalError as error:
        failure = {"ok": False, "seconds": round(time.monotonic() - started, 1), "error": str(error)}
        write_report(report_path, failure)
        raise
    seconds = time.monotonic() - started
    claimed = claims(outcome)
    write_report(report_path, report(outcome, claimed, seconds=seconds))
    screen = RichConsole()
    print_statement(outcome, claimed, console=screen)
    untrue = [claim.sentence for claim in claimed if not claim.is_true]
    if untrue:
        raise DemoFailed(f"not true: {'; '.join(untrue)}; see {report_path} and {own.data_dir / 'logs'}")
    screen.print(f"All of it is true. {seconds:.0f} s; the report is {report_path}", soft_wrap=True)


def own_settings(settings: LocalSettings) -> LocalSettings:
    """The demo's: a directory below the given one, a free port of loopback, its own providers and chain.

    Whatever Solana the environment names: the demo pays people who do not exist.
    """
    return settings.model_copy(
        update={
            "data_dir": settings.data_dir.absolute() / "demo",
            "port": free_port(),
            "host": LOOPBACK,
            "house_pool": True,
            "solana_rpc_url": None,
        }
    )


async def _outcome(settings: LocalSettings, console: Console) -> Outcome:
    """Tell the story to a stack that runs as long as that takes."""
    async with (
        running_stack(settings, environment=os.environ, console=console, is_fresh=True) as stack,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        console.say("demo", f"the stack is ready after {stack.ready_after_s:.0f} s")

        def kill_machine(provider: str) -> tuple[str, int]:
            node = next(one for one in DEMO_NODES if one.provider == provider)
            return node.name, stack.supervisor.kill(node.parts)

        story = Story(
            http,
            base_url=stack.base_url,
            credentials=stack.layout.credentials,
            chain=stack.layout.solana_chain,
            pictures=stack.layout.root,
            kill=kill_machine,
            console=console,
        )
        try:
            return await story.tell()
        except (httpx.HTTPError, WebSocketException, TimeoutError) as error:
            raise DemoFailed(f"the API could not be reached: {type(error).__name__} {error}") from error
