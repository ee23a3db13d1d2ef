"""The gateway beside nginx in half a minute, to profile and to see what a change brought: CPU of a request and of a chunk.

    make bench only=gateway_quick
    PYTHONPATH=tests python tests/bench/gateway_quick.py [--wait]

With `--wait` nothing is sent: it prints the pid, port, key and model of the running API and waits for Ctrl-C, for
`py-spy record --pid`, `perf top --pid` or a load of one's own (`load.py`). The API's log is in the folder it names.
"""

import argparse
import signal
from collections.abc import Sequence

from cpu_ratio import Ratio, ratios
from gateway_stage import Stage, gateway_stage

from support.figures import Figure, print_figures


def measure() -> Sequence[Figure]:
    """On servers of its own."""
    with gateway_stage() as stage:
        return [figure(ratio) for ratio in ratios(stage)]


def figure(ratio: Ratio) -> Figure:
    """A ratio beside its target."""
    return Figure(
        name=ratio.name,
        measured=f"{ratio.ours_us:.1f} us [{ratio.ours_us_min:.1f}-{ratio.ours_us_max:.1f}]"
        + (f", nginx {ratio.nginx_us:.1f}: {ratio.ratio:.2f}x" if ratio.nginx_us else ", no nginx here"),
        target=f"must {ratio.must:g}x, aim {ratio.aim:g}x of nginx",
        holds=ratio.holds,
    )


def wait(stage: Stage) -> None:
    """Until a signal."""
    ours = stage.ours
    print(
        f"pid={ours.pid} port={ours.port} key={ours.key} model={ours.model} folder={stage.folder}", flush=True
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wait", action="store_true")
    if parser.parse_args().wait:
        with gateway_stage() as stage:
            wait(stage)
    else:
        print_figures("the gateway beside nginx", measure())


if __name__ == "__main__":
    main()
