"""A reconnect storm: the marketplace is killed under 2,000 linked nodes and started again; seconds until all are sold again.

The time runs from the moment at which the new process listens until every node's endpoint is in routing: upgrade,
handshake, proof, announcement, offers and prices from PostgreSQL, and the pauses of the nodes' own backoff. Nodes,
marketplace and PostgreSQL share the machine.

    PYTHONPATH=tests python tests/bench/storm.py [NODES]
"""

import sys
from collections.abc import Sequence

from crowd_stage import crowd_stage
from link import cpu_us

from support.figures import Figure

NODES = 2_000
MUST_S = 30.0


def measure(*, nodes: int = NODES) -> Sequence[Figure]:
    """One storm after a calm arrival."""
    with crowd_stage(nodes) as stage:
        stage.start_crowd()
        stage.wait_for("endpoints")
        stage.kill_market()
        stage.start_market()
        assert stage.market is not None
        linked_s = stage.wait_for("linked")
        sold_s = linked_s + stage.wait_for("endpoints")
        cpu_ms = cpu_us(stage.market.pid) / 1_000 / nodes
    return [
        Figure(
            name=f"{nodes:,} nodes linked and sold again",
            measured=f"{sold_s:.1f} s (linked after {linked_s:.1f} s); {cpu_ms:.1f} ms CPU of the marketplace a node",
            target=f"at most {MUST_S:.0f} s",
            holds=sold_s <= MUST_S,
        )
    ]


if __name__ == "__main__":
    for each in measure(nodes=int(sys.argv[1]) if len(sys.argv) > 1 else NODES):
        print(f"{each.name}: {each.measured}; {each.target}")
