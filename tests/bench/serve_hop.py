"""The hop from the gateway to a replica: CPU of a streamed token at both ends, of what Ray Serve's default handle takes.

One replica in a real Ray cluster, started by Serve, has both ways: an async generator behind its handle, and our HTTP
server on a port of its own with the gateway's client before it. The caller is one process too, and the ways take turns,
8 streams at once, a token each 10 ms. Ours carries token ids, counts and the events' framing, the handle only the text.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

from processes import HERE, TESTS, on_core, pinned
from progress import say

from raymart_serve.ray_tuning import TUNED
from support.figures import Figure
from support.ray_cluster import RayCluster

ROUNDS = 5
MUST, AIM = 1 / 4, 1 / 6
_TIMEOUT_S = 300


def measure() -> Sequence[Figure]:
    """In a cluster of its own."""
    spent = _spent()
    totals = {way: [sum(both) for both in rounds] for way, rounds in spent.items()}
    shares = [ours / handle for ours, handle in zip(totals["ours"], totals["handle"], strict=True)]
    share = statistics.median(shares)
    return [
        Figure(
            name="gateway to replica, a chunk, both ends",
            measured=f"1/{1 / share:.1f} of the handle ({min(shares):.3f} to {max(shares):.3f}): "
            f"{_parts(spent['ours'])} against {_parts(spent['handle'])} us",
            target="must 1/4, aim 1/6",
            holds=share <= MUST,
        )
    ]


def _parts(rounds: Sequence[tuple[float, float]]) -> str:
    caller = statistics.median(caller for caller, _ in rounds)
    replica = statistics.median(replica for _, replica in rounds)
    return f"{caller:.0f} + {replica:.0f}"


def _spent() -> dict[str, list[tuple[float, float]]]:
    """CPU microseconds a chunk of caller and replica, a pair for each round, by the way."""
    path = f"{HERE}:{TESTS}"
    cluster = RayCluster()
    try:
        say("starting Ray")
        with on_core(1):
            cluster.start_head()
            cluster.start_node("bench", environment={"PYTHONPATH": path})
        say("streaming")
        done = subprocess.run(
            pinned([sys.executable, str(HERE / "hop_caller.py"), cluster.address, str(ROUNDS)], core=0),
            check=False,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            # Without the flag Ray's driver looks for a head on 127.0.0.1 at this machine's other address.
            env={
                **TUNED,
                **os.environ,
                **cluster.authentication,
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                "PYTHONPATH": path,
            },
        )
        if done.returncode:
            raise RuntimeError(f"the caller failed: {done.stderr[-2000:]}")
        spent: dict[str, list[tuple[float, float]]] = json.loads(done.stdout.splitlines()[-1])
        return spent
    finally:
        cluster.stop()
