"""`status`, `doctor`, `drain`, `resume`, `rotate-key` and `leave`: what people ask of a node, answered at once."""

import dataclasses
import json
from typing import Annotated

import msgspec
import typer
import uvloop
from websockets.exceptions import WebSocketException

from raymart_core.logs import configure_logs
from raymart_core.wire.membership import DrainAsk
from raymart_providers.commands.shared import (
    DEFAULT_STATE,
    Output,
    OutputOption,
    PlaintextOption,
    RayHostOption,
    ServerOption,
    StateOption,
    told_in_one_line,
)
from raymart_providers.doctor import examine
from raymart_providers.errors import NotEnrolled, ProviderError
from raymart_providers.identity import load_enrolment
from raymart_providers.leave import clear_machine, leave_marketplace
from raymart_providers.link.handshake import BadPeer
from raymart_providers.link.server_address import link_url
from raymart_providers.ray_process.options import LOOPBACK
from raymart_providers.settings import AgentSettings
from raymart_providers.state_dir import StateDir
from raymart_providers.status import DRAIN_PATH, ROTATE_PATH, ask_agent, tell_agent, wait_until_idle
from raymart_providers.tables import print_checks, print_report


def status(*, state_dir: StateOption = DEFAULT_STATE, output: OutputOption = Output.TABLE) -> None:
    """Show the running agent's link, replicas and load; exit 1 unless the link is live."""
    with told_in_one_line():
        report = ask_agent(StateDir(state_dir))
    if output is Output.JSON:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print_report(report)
    if report.link.state != "live":
        raise typer.Exit(1)


def doctor(
    *,
    state_dir: StateOption = DEFAULT_STATE,
    server: ServerOption = None,
    ray_host: RayHostOption = LOOPBACK,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check this machine, its identity, the marketplace and the agent; exit 1 when something is broken."""
    # The table is the output; what the checks log is a repetition of it.
    configure_logs(process="doctor", level="ERROR")
    checks = list(examine(StateDir(state_dir), AgentSettings(), server=server, ray_host=ray_host))
    if output is Output.JSON:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        print_checks(checks)
    if any(check.result == "fail" for check in checks):
        raise typer.Exit(1)


def leave(
    *,
    state_dir: StateOption = DEFAULT_STATE,
    server: ServerOption = None,
    allow_plaintext: PlaintextOption = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete the key even if the marketplace cannot be told.")
    ] = False,
) -> None:
    """Revoke this node's key at the marketplace and delete it here. Stop the agent first."""
    configure_logs(process="leave", level="ERROR")
    state = StateDir(state_dir)
    with told_in_one_line(), state.hold():
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
        clear_machine(state)
        state.forget()
    print(f"{enrolment.name} has left; its key is gone.")


def drain(
    *,
    state_dir: StateOption = DEFAULT_STATE,
    notice: Annotated[
        float, typer.Option("--notice", min=0, help="Seconds that running requests may go on.")
    ] = 300.0,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the node's history.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when nothing runs any more, or after the notice.")
    ] = False,
) -> None:
    """Take this machine out of routing; what runs may end. It stays so until `resume`."""
    state = StateDir(state_dir)
    with told_in_one_line():
        ask = DrainAsk(notice_s=notice, reason=reason)
        standing = tell_agent(state, DRAIN_PATH, msgspec.json.encode(ask))
        print(f"Draining: no new requests; what runs may go on for {standing.notice_s:.0f} s.")
        if wait:
            left = wait_until_idle(state, timeout_s=notice)
            print("Nothing runs any more." if left == 0 else f"{left} requests still run.")


def resume(
    *,
    state_dir: StateOption = DEFAULT_STATE,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the node's history.")] = "",
) -> None:
    """Take requests again after `drain`."""
    with told_in_one_line():
        ask = DrainAsk(resume=True, reason=reason)
        tell_agent(StateDir(state_dir), DRAIN_PATH, msgspec.json.encode(ask))
        print("Back: this machine takes requests.")


def rotate_key(*, state_dir: StateOption = DEFAULT_STATE) -> None:
    """Give this node another key; the old one is worthless afterwards. The agent runs on."""
    with told_in_one_line():
        standing = tell_agent(StateDir(state_dir), ROTATE_PATH, b"{}")
        print(f"The node's key is another: {standing.public_key}")
