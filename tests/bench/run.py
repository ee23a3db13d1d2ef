"""Run every bench and print its figures beside their targets. Usage: run.py [NAME...]

Each module has a docstring and `measure() -> Sequence[Figure]`, which starts what it needs and leaves nothing running;
those of `ASKED` are parts of others and run only when named. Those of `ON_HISTORY` share 10 million generated requests: they need 20 GB of disk
below the folder for temporary files meanwhile. Exit status 1 when a "must" was missed.
"""

import importlib
import os
import signal
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from usage_history import usage_history  # noqa: E402 - the path comes first

from support.figures import print_figures  # noqa: E402

MEASURES = (
    "gateway",
    "ledger",
    "holds",
    "low_balance",
    "login",
    "page",
    "subscriptions",
    "audit",
    "payout_transactions",
    "payouts",
    "image",
    "a1111",
    "llama_cpp",
    "peer_fetch",
    "link",
    "heartbeats",
    "storm",
    "router",
    "serve_hop",
)
ON_HISTORY = ("ingestion", "rollups")
ASKED = ("gateway_quick",)


def main() -> None:
    """Run the benches named on the command line, or all."""
    # As Ctrl-C does: what is under way ends, its server stops, its files go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    wanted = sys.argv[1:] or [*MEASURES, *ON_HISTORY]
    reached = True
    for name in (*MEASURES, *ASKED):
        if name in wanted and (HERE / f"{name}.py").exists():
            reached &= run(name)
    with usage_history() as history:
        for name in ON_HISTORY:
            if name in wanted:
                reached &= run(name, history)
    sys.exit(0 if reached else 1)


def run(name: str, *on: object) -> bool:
    """Measure and print one bench; returns whether all of its figures hold."""
    module = importlib.import_module(name)
    title = (module.__doc__ or name).strip().splitlines()[0]
    before = os.getloadavg()[0]
    figures = module.measure(*on)
    return print_figures(f"{title} (load average {before:.1f} to {os.getloadavg()[0]:.1f})", figures)


if __name__ == "__main__":
    main()
