"""Drive a running stack with other people's clients, and say in one table which of them work.

Usage: run.py basic|clients|graphql|heavy [CLIENT...]. Exits 1 when a claim does not hold, 2 when there is no stack.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catalogue import ALL, Client, Suite
from environments import HERE, ROOT, Environment, environment_of
from stack import NoStackError, running_stack

LOGS = ROOT / "var" / "acceptance-logs"
_TAIL_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one check went."""

    client: str
    check: str
    seconds: float
    failed: str
    """Why; empty when every claim held."""
    said: str
    """Its last line."""


def main(arguments: Sequence[str]) -> int:
    """Run the suite, or the named clients of it."""
    suite, names = Suite(arguments[0]), set(arguments[1:])
    chosen = [client for client in ALL if suite in client.suites and (not names or client.name in names)]
    if not chosen or names - {client.name for client in chosen}:
        known = ", ".join(client.name for client in ALL if suite in client.suites)
        print(f"no such client: {' '.join(sorted(names))}; {suite} has {known}", file=sys.stderr)
        return 2
    environments = {}
    for client in chosen:
        print(f"{client.name}: its environment", flush=True)
        environments[client.name] = environment_of(client.name)
    LOGS.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    try:
        with running_stack() as credentials:
            for client in chosen:
                outcomes += run_client(client, environments[client.name], credentials)
    except NoStackError as error:
        print(error, file=sys.stderr)
        print_table(outcomes)
        return 2
    print_table(outcomes)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def run_client(client: Client, environment: Environment, credentials: Path) -> list[Outcome]:
    """Every check of one client, each whatever became of the one before."""
    outcomes = []
    for check in client.checks:
        print(f"{client.name}: {check}", flush=True)
        outcome = run_check(client, check, environment, credentials)
        if outcome.failed:
            print(outcome.failed, flush=True)
        outcomes.append(outcome)
    return outcomes


def run_check(client: Client, check: str, environment: Environment, credentials: Path) -> Outcome:
    """One script, its output kept in a file."""
    log = LOGS / f"{client.name}-{Path(check).stem}.log"
    began_at = time.monotonic()
    with log.open("wb") as lines:
        try:
            code = subprocess.run(
                [*environment.command(HERE / client.name / check), str(credentials.absolute())],
                cwd=ROOT,
                env={**os.environ, **environment.variables()},
                stdout=lines,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=client.limit_s,
                check=False,
            ).returncode
            problem = f"exit {code}" if code else ""
        except subprocess.TimeoutExpired:
            problem = f"not done within {client.limit_s:.0f} s"
    output = log.read_text(errors="replace").rstrip().splitlines()
    if problem:
        tail = "\n".join(f"    {line}" for line in output[-_TAIL_LINES:])
        problem = f"  {problem}; {log.relative_to(ROOT)} ends with\n{tail}"
    return Outcome(
        client=client.name,
        check=check,
        seconds=time.monotonic() - began_at,
        failed=problem,
        said=output[-1] if output else "",
    )


def print_table(outcomes: Sequence[Outcome]) -> None:
    """One line a check."""
    print(f"\n  {'client':16} {'check':18} {'':4} {'s':>5}")
    for outcome in outcomes:
        verdict, said = ("NO", "") if outcome.failed else ("yes", outcome.said)
        print(f"  {outcome.client:16} {outcome.check:18} {verdict:4} {outcome.seconds:5.1f}  {said}")
    good = sum(not outcome.failed for outcome in outcomes)
    print(f"  {good} of {len(outcomes)} checks hold", flush=True)


if __name__ == "__main__":
    # The stack is stopped on the way out, whoever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    sys.exit(main(sys.argv[1:]))
