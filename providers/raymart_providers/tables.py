"""What the commands print for people."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from raymart_providers.preflight import Check
from raymart_providers.status import AgentReport


def print_report(report: AgentReport) -> None:
    """`raymart-provider status`."""
    console = Console()
    link = report.link
    skew = "" if link.clock_skew_ms is None else f", clock {link.clock_skew_ms:+d} ms"
    console.print(f"{report.role} {report.name}  {report.node_id or 'not enrolled'}  pool {link.pool or '-'}")
    console.print(f"link {link.state} to {link.server}{skew}")
    if link.error:
        console.print(f"last error: {link.error}", markup=False)
    if report.role == "node":
        print_rows(
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
        print_rows(
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
        print_rows(
            ("placement", "node", "model", "state", "replicas", "reason"),
            [
                (seen.placement_id, seen.node, seen.model, seen.state, str(seen.replicas), seen.reason)
                for seen in report.placements
            ],
        )


def print_checks(checks: Iterable[Check]) -> None:
    """Check, result, what was found, what to do."""
    print_rows(
        ("check", "result", "found", "fix"),
        [(check.check, check.result, check.found, check.fix) for check in checks],
    )


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table."""
    table = Table(*headings)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
