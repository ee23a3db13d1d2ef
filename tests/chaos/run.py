"""Run the promises of docs/promises.md that need faults, and print each figure beside its target.

Each module `promise_<number>_<name>.py` has a docstring (the promise) and `measure() -> Sequence[Figure]`, which starts
what it needs and leaves nothing running. Usage: run.py [NUMBER...]; exit status 1 when a target was missed.
"""

import importlib
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from support.figures import print_figures  # noqa: E402 - the path comes first


def main() -> None:
    """Run the promises named on the command line, or all."""
    wanted = {int(argument) for argument in sys.argv[1:]}
    kept = True
    for path in sorted(HERE.glob("promise_*.py")):
        number = int(path.stem.split("_")[1])
        if wanted and number not in wanted:
            continue
        module = importlib.import_module(path.stem)
        begun = time.monotonic()
        figures = module.measure()
        promise = (module.__doc__ or path.stem).strip().splitlines()[0]
        kept &= print_figures(f"{number}. {promise} ({time.monotonic() - begun:.0f} s)", figures)
    print("\nchaos: all promises held" if kept else "\nchaos: a promise was broken", flush=True)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
