"""Run every bench and print its figures beside their targets. Usage: run.py [NAME...]

`gateway` prints its own table; each other module has a docstring and `measure() -> Sequence[Figure]`, which starts what
it needs and leaves nothing running. Exit status 1 when a "must" was missed.
"""

import importlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from support.figures import print_figures  # noqa: E402 - the path comes first

MEASURES = ("ledger", "holds", "ingestion", "rollups", "low_balance")


def main() -> None:
    """Run the benches named on the command line, or all."""
    wanted = sys.argv[1:] or ["gateway", *MEASURES]
    reached = True
    if "gateway" in wanted:
        reached &= subprocess.run([sys.executable, HERE / "gateway.py"], check=False).returncode == 0
    for name in MEASURES:
        if name in wanted and (HERE / f"{name}.py").exists():
            module = importlib.import_module(name)
            title = (module.__doc__ or name).strip().splitlines()[0]
            reached &= print_figures(title, module.measure())
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
