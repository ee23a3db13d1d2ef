"""10,000 simulated nodes, a heartbeat each 10 s: how much of a core the marketplace takes to hear them.

10,000 links of 10,000 sockets, each node proven and with an endpoint in routing. Per heartbeat: WebSocket message, limits,
directory, and the ping that an agent sends as often; besides, over all links: who is still welcome and was seen
(PostgreSQL), and offers and prices read anew. Then the same with each node's telemetry every 10 s (Redis). CPU is /proc
schedstat of the marketplace's process, and of PostgreSQL's and Redis's beside it.

    PYTHONPATH=tests python tests/bench/heartbeats.py [NODES] [SECONDS]
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crowd_stage import CrowdStage, children_of, crowd_stage
from link import cpu_us

from support.figures import Figure

NODES = 10_000
MUST, AIM = 0.30, 0.15
_SETTLE_S = 30.0
"""A round of the roll, and longer than a heartbeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Of a core."""

    marketplace: float
    postgres: float
    redis: float


def measure(*, nodes: int = NODES, seconds: float = 30.0) -> Sequence[Figure]:
    """The calm after all have come, without telemetry and with it."""
    with crowd_stage(nodes) as stage:
        assert stage.market is not None
        alone = _memory_bytes(stage.market.pid)
        stage.start_crowd()
        stage.wait_for("endpoints", every_s=1.0)
        time.sleep(_SETTLE_S)
        memory = (_memory_bytes(stage.market.pid) - alone) / nodes
        calm = _shares(stage, seconds)
        assert stage.count("linked") == nodes, "a link was lost meanwhile"
        stage.tell_telemetry()
        stage.wait_for("telemetry", every_s=1.0)
        told = _shares(stage, seconds)
        assert stage.count("linked") == nodes, "a link was lost meanwhile"
    return [
        _figure(f"{nodes:,} nodes, a heartbeat and a ping each 10 s", nodes, calm),
        _figure("the same, and telemetry each 10 s", nodes, told),
        Figure(
            name="memory of a link",
            measured=f"{memory / 1024:.0f} KiB",
            target="none",
            holds=True,
        ),
    ]


def _shares(stage: CrowdStage, seconds: float) -> Shares:
    assert stage.market is not None
    marketplace, redis = stage.market.pid, stage.redis_pid
    postgres = [each for each in children_of(stage.database_pid) if each != marketplace]
    began_at, before = time.monotonic(), {each: cpu_us(each) for each in (marketplace, redis, *postgres)}
    time.sleep(seconds)
    elapsed_us = (time.monotonic() - began_at) * 1e6
    shares = {each: (cpu_us(each) - used) / elapsed_us for each, used in before.items()}
    return Shares(
        marketplace=shares[marketplace], postgres=sum(shares[each] for each in postgres), redis=shares[redis]
    )


def _figure(name: str, nodes: int, shares: Shares) -> Figure:
    each_us = shares.marketplace * 1e7 / nodes
    return Figure(
        name=name,
        measured=f"{shares.marketplace:.1%} of a core, {each_us:.0f} us a heartbeat; "
        f"PostgreSQL {shares.postgres:.1%}, Redis {shares.redis:.1%}",
        target=f"must {MUST:.0%}, aim {AIM:.0%}",
        holds=shares.marketplace <= MUST,
    )


def _memory_bytes(pid: int) -> int:
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    options = sys.argv[1:]
    for each in measure(
        nodes=int(options[0]) if options else NODES, seconds=float(options[1]) if len(options) > 1 else 30.0
    ):
        print(f"{each.name}: {each.measured}; {each.target}")
