"""Overload is shed: five times what endpoints can do is asked, and they do no less than when as much was asked as they can.

Two replicas of four slots, a quarter of a second each, that queue and refuse as real ones do; clients that never slow down and
come back whatever `Retry-After` says. What is refused is refused at once, and the replicas are asked hardly more than they
answer.
"""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raymart_core.units import Fault
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from support.chaos_load import GatewayProcess, gateways
from support.figures import Figure
from support.open_loop import Answered, OpenLoop
from support.scripted_replica import Exchange, ScriptedReplica, answer

SLOTS = 4
SERVICE_S = 0.25
WAITING_MAX = 8
"""A replica refuses one more with 503."""
TIMES = 5
PEAK_S = 15.0
OVERLOAD_S = 60.0
GOODPUT_MIN = 0.9
REFUSAL_S_MAX = 0.05
ATTEMPTS_MAX = 1.2


class SlottedReplica:
    """A replica's script: so many generations at once, some that wait, and 503 for one more."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(SLOTS)
        self._inside = 0
        self.asked = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.asked += 1
        if self._inside >= SLOTS + WAITING_MAX:
            exchange.refuse(503, "too many wait", Fault.PROVIDER)
            return
        self._inside += 1
        try:
            async with self._slots:
                await asyncio.sleep(SERVICE_S)
            await answer(exchange)
        finally:
            self._inside -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    peak_per_s: float
    """Answers a second while as much was asked as the slots can do."""
    asked_per_s: float
    goodput_per_s: float
    served: int
    refused: Sequence[Answered]
    lost: int
    """Neither served nor refused as promised."""
    attempts: int
    """What the replicas were asked meanwhile."""


def request_of(gateway: GatewayProcess) -> bytes:
    """A short request, as bytes."""
    body = json.dumps(
        {"model": gateway.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    ).encode()
    key = gateway.client.headers["authorization"]
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def run(url: str, directory: Path, *, peak_s: float, overload_s: float) -> Outcome:
    """Ask as much as can be done, then `TIMES` as much."""
    scripts = SlottedReplica(), SlottedReplica()
    async with (
        ScriptedReplica(scripts[0]) as one,
        ScriptedReplica(scripts[1]) as two,
        gateways(url, 1, replica=f"{one.address},{two.address}", directory=directory, capacity=SLOTS) as [
            gateway
        ],
    ):
        base = gateway.client.base_url
        load = OpenLoop(base.host, base.port or 80, request_of(gateway))
        await load.saturate(at_once=2, seconds=1.0)  # Warm: keys, leases, connections.
        peak = await load.saturate(at_once=2 * SLOTS * 5 // 4, seconds=peak_s)
        peak_per_s = sum(one.status == 200 for one in peak) / max(one.at_s + one.took_s for one in peak)
        before = sum(script.asked for script in scripts)
        asked = await load.send(rate_per_s=TIMES * peak_per_s, seconds=overload_s)
        load.close()
    served = [one for one in asked if one.status == 200]
    refused = [one for one in asked if one.status in {429, 503} and one.retry_after]
    return Outcome(
        peak_per_s=peak_per_s,
        asked_per_s=TIMES * peak_per_s,
        goodput_per_s=len(served) / max(one.at_s + one.took_s for one in served),
        served=len(served),
        refused=refused,
        lost=len(asked) - len(served) - len(refused),
        attempts=sum(script.asked for script in scripts) - before,
    )


def figures(outcome: Outcome) -> Sequence[Figure]:
    """`outcome` beside what was promised."""
    goodput = outcome.goodput_per_s / outcome.peak_per_s
    times_s = sorted(one.took_s for one in outcome.refused)
    p50, p99 = (times_s[int(len(times_s) * share)] for share in (0.5, 0.99))
    attempts = outcome.attempts / outcome.served
    return [
        Figure(
            name=f"goodput at {outcome.asked_per_s:.0f} requests a second, of its peak of {outcome.peak_per_s:.1f}",
            measured=f"{goodput:.1%} ({outcome.goodput_per_s:.1f} a second)",
            target=f">= {GOODPUT_MIN:.0%}",
            holds=goodput >= GOODPUT_MIN,
        ),
        Figure(
            name=f"{len(outcome.refused):,} refusals with Retry-After, 99 % of them",
            measured=f"{p99 * 1000:.1f} ms (half of them {p50 * 1000:.1f} ms)",
            target=f"<= {REFUSAL_S_MAX * 1000:.0f} ms",
            holds=p99 <= REFUSAL_S_MAX,
        ),
        Figure(
            name="neither served nor refused so",
            measured=f"{outcome.lost} of {outcome.served + len(outcome.refused) + outcome.lost:,}",
            target="0",
            holds=outcome.lost == 0,
        ),
        Figure(
            name="attempts at replicas for each request served",
            measured=f"{attempts:.3f}",
            target=f"<= {ATTEMPTS_MAX}",
            holds=attempts <= ATTEMPTS_MAX,
        ),
    ]


def measure(*, peak_s: float = PEAK_S, overload_s: float = OVERLOAD_S) -> Sequence[Figure]:
    """Overload a gateway with a server of its own."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-") as name:
        directory = Path(name)
        server = EmbeddedPostgres(directory / "pg")
        try:
            upgrade(server.start())
            outcome = asyncio.run(run(server.url, directory / "spill", peak_s=peak_s, overload_s=overload_s))
        finally:
            server.destroy()
    return figures(outcome)
