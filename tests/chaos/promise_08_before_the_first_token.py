"""A provider that dies before the first token is not noticed: another one answers.

Three providers' machines as processes (the real agent, two real llama.cpp replicas each), linked to the whole API, which
is asked at a steady rate, every answer in one piece: until it is there nothing of it was sent. In turns a replica is
killed, a machine with all that runs on it, and a link; then a link falls silent (its agent stands still), which nobody is
told. What was killed comes back before the next fault. `tests/netns/test_house_pool.py` does the same to Ray's machines,
with cables, as root.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from raymart_graphql.seed_models import CHAT
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.db.migrate import upgrade
from support.api_server import Api, api_server, control_settings
from support.figures import Figure
from support.link_market import until
from support.provider_processes import SLOTS, ProviderMachine, chat_market
from support.steady_load import Outcome, SteadyLoad

RATE_PER_S = float(os.environ.get("CHAOS_RATE_PER_S", "20"))
"""What two cores shared with engines, agents and clients answer without a queue."""
STEP_DELAY_MS = 30
"""Of the engines, so that some requests are always under way where something dies."""
UNDER_WAY = 2
"""Requests that a machine has at least when it is struck; its replicas share them."""
BEFORE_S, AFTER_S = 5.0, 15.0
"""Of a load: undisturbed, and from the fault on."""
MACHINES, REPLICAS = ("north", "south", "east"), 2
SUCCESS, ADDED_P99_S, SILENT_S = 0.999, 1.0, 8.0
BODY = {
    "model": CHAT.slug,
    "messages": [{"role": "user", "content": "What is the capital of Norway?"}],
    "max_tokens": 8,
    "temperature": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that dies, and what brings it back."""

    name: str
    strike: Callable[[ProviderMachine], None]
    recover: Callable[[ProviderMachine], Awaitable[None]]
    is_told: bool = True
    """Whether whoever is connected to it sees a connection end."""


async def _restart_replica(machine: ProviderMachine) -> None:
    await machine.start_replica()


async def _restart_agent(machine: ProviderMachine) -> None:
    await machine.start_agent()


async def _restart(machine: ProviderMachine) -> None:
    await machine.start_agent()
    for _ in range(REPLICAS):
        await machine.start_replica()


async def _thaw(machine: ProviderMachine) -> None:
    machine.thaw()


FAULTS = (
    Fault(name="a replica is killed", strike=ProviderMachine.kill_replica, recover=_restart_replica),
    Fault(name="a machine is killed", strike=ProviderMachine.kill, recover=_restart),
    Fault(name="a link is reset", strike=ProviderMachine.kill_agent, recover=_restart_agent),
    Fault(name="a link falls silent", strike=ProviderMachine.freeze, recover=_thaw, is_told=False),
)


def measure() -> Sequence[Figure]:
    """Start everything on a server of its own, and strike."""
    with (
        tempfile.TemporaryDirectory(prefix="raymart-chaos-08-") as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
    ):
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            upgrade(server.owner_url)
            return asyncio.run(_strike_all(server.runtime_url, redis.url, Path(folder)))
        finally:
            server.destroy()


async def _strike_all(database_url: str, redis_url: str, folder: Path) -> Sequence[Figure]:
    settings = control_settings(database_url, redis_url=redis_url, broker_url=redis_url, log_level="ERROR")
    async with api_server(settings) as api, contextlib.AsyncExitStack() as stack:
        market = await chat_market(api.services.sessions, f"http://127.0.0.1:{api.port}")
        machines = [
            ProviderMachine(slug=slug, market=market, folder=folder / slug, stack=stack) for slug in MACHINES
        ]
        for machine in machines:
            await machine.open(replicas=REPLICAS, step_delay_ms=STEP_DELAY_MS)
        await _all_live(api)
        customer = await api.tenant()
        await api.credit(customer, 10**12)
        _, key = await api.api_key(customer)
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=market.url,
                headers={"authorization": f"Bearer {key}"},
                timeout=30,
                limits=httpx.Limits(max_connections=400),
            )
        )
        quiet = await _load(client, seconds=BEFORE_S + AFTER_S)
        outcomes = []
        for number, fault in enumerate(FAULTS):
            machine = machines[number % len(machines)]
            outcomes.append(
                await _load(client, seconds=BEFORE_S + AFTER_S, strike=partial(_strike, api, fault, machine))
            )
            await fault.recover(machine)
            await _all_live(api)
    return _figures(quiet, outcomes)


async def _strike(api: Api, fault: Fault, machine: ProviderMachine) -> None:
    """At a moment when it serves somebody."""

    def is_busy() -> bool:
        live = api.services.directory.live(CHAT.slug)
        return any(each.provider_slug == machine.slug and each.running >= UNDER_WAY for each in live)

    await until(is_busy, every_s=0.001)
    fault.strike(machine)


async def _load(
    client: httpx.AsyncClient, *, seconds: float, strike: Callable[[], Awaitable[None]] | None = None
) -> Outcome:
    async with SteadyLoad(client, BODY, count=int(seconds * RATE_PER_S), rate_per_s=RATE_PER_S) as load:
        await load.reached(BEFORE_S)
        if strike is not None:
            await strike()
        return await load.outcome()


async def _all_live(api: Api) -> None:
    """Wait until every machine serves with all of its replicas."""

    def is_whole() -> bool:
        live = api.services.directory.live(CHAT.slug)
        return len(live) == len(MACHINES) and all(
            each.capacity == REPLICAS * SLOTS and not each.quarantined for each in live
        )

    await until(is_whole, timeout_s=90, every_s=0.05)


def _figures(quiet: Outcome, outcomes: Sequence[Outcome]) -> Sequence[Figure]:
    usual = quiet.latency_s(0.99)
    figures = [
        Figure(
            name="undisturbed",
            measured=f"{len(quiet.failed)} of {len(quiet.sent)} failed, p99 {usual * 1000:.0f} ms",
            target="none fails",
            holds=not quiet.failed,
        )
    ]
    moved = sum(outcome.retried for outcome in outcomes)
    figures.append(
        Figure(
            name="requests that another machine took over",
            measured=str(moved),
            target=f"one for each of {len(FAULTS)} faults at least",
            holds=moved >= len(FAULTS),
        )
    )
    for fault, outcome in zip(FAULTS, outcomes, strict=True):
        failed, sent = len(outcome.failed), len(outcome.sent)
        figures.append(
            Figure(
                name=f"{fault.name}: failed",
                measured=f"{failed} of {sent}, {outcome.retried} took another attempt",
                target=f">= {SUCCESS:.1%} succeed",
                holds=failed <= (1 - SUCCESS) * sent,
            )
        )
        added, longest = outcome.latency_s(0.99) - usual, outcome.latency_s(1)
        told = f"p99 {added * 1000:+.0f} ms, longest {longest * 1000:.0f} ms"
        figures.append(
            Figure(
                name=f"{fault.name}: latency",
                measured=told,
                target=f"p99 +{ADDED_P99_S:g} s" if fault.is_told else f"longest {SILENT_S:g} s",
                holds=added <= ADDED_P99_S if fault.is_told else longest <= SILENT_S,
            )
        )
    return figures
