"""A crash of Postgres loses no acknowledged reply, and clients go on within 5 seconds.

Under load Postgres is stopped at once (three times, started again after 2 s) or one of its backends is killed (three
times, which makes it recover by itself). Replies that end meanwhile are spilled to the gateway's disk.
"""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg

from raymart_billing.connections import make_pool
from raymart_billing.ledger import trial_balance
from raymart_billing.posting import sweep_usage
from raymart_billing.spill.journal import segments
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.chaos_load import GatewayProcess, Seen, forever, gateways, serve
from support.figures import Figure
from support.scripted_replica import ScriptedReplica

CYCLES = 6
AWAY_S = 2.0
ASKING = 8
RECOVERY_S_MAX = 5.0


@dataclass(slots=True)
class Outcome:
    """What was found after all crashes."""

    acknowledged: int = 0
    lost: int = 0
    failed: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    """From each fault to the first reply to a client that asked after it."""
    left_on_disk: int = 0
    is_balanced: bool = False


async def crash(server: EmbeddedPostgres, gateway: GatewayProcess, *, cycle: int) -> None:
    """Stop the server at once, or kill a gateway's backend under it, from which it recovers by itself."""
    if cycle % 2 == 0:
        await asyncio.to_thread(server.stop, "immediate")
        return
    os.kill(await backend_of(gateway, server), signal.SIGKILL)


async def backend_of(gateway: GatewayProcess, server: EmbeddedPostgres) -> int:
    """The process id of one of the gateway's sessions; right after an outage it may have none yet."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for _ in range(100):
            found = connection.execute(
                "select pid from pg_stat_activity where application_name = 'raymart-gateway' order by pid limit 1"
            ).fetchone()
            if found is not None:
                return found[0]
            await asyncio.sleep(0.1)
    raise AssertionError(f"the gateway has had no session for 10 s; {await gateway.account()}")


async def repair(server: EmbeddedPostgres, *, cycle: int) -> None:
    """Start the server again where it was stopped."""
    if cycle % 2 == 0:
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(server.start)


async def first_reply_after(gateway: GatewayProcess, seen: Seen, moment: float) -> float:
    """Ask until a reply comes; returns how long after `moment`, that of the fault."""
    try:
        async with asyncio.timeout(20):
            while True:
                own = Seen()
                await gateway.ask(own)
                seen.acknowledged |= own.acknowledged
                if own.acknowledged:
                    return time.monotonic() - moment
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"no reply within 20 s of the fault; {await gateway.account()}") from None


async def drained(gateway: GatewayProcess, directory: Path) -> None:
    """Return once the gateway has brought in its own file, as it does when the server is back."""
    try:
        async with asyncio.timeout(30):
            while segments(directory):
                await asyncio.sleep(0.1)
    except TimeoutError:
        left = [path.name for path in segments(directory)]
        raise AssertionError(f"{left} not drained within 30 s; {await gateway.account()}") from None


async def run(server: EmbeddedPostgres, directory: Path, *, cycles: int) -> Outcome:
    """Crash the server `cycles` times under load, and look what became of it."""
    outcome, seen, over = Outcome(), Seen(), asyncio.Event()
    async with (
        ScriptedReplica(serve) as replica,
        gateways(server.url, 1, replica=replica, directory=directory) as [gateway],
    ):
        async with asyncio.TaskGroup() as group:
            for _ in range(ASKING):
                group.create_task(forever(lambda: gateway.ask(seen), until=over))
            for cycle in range(cycles):
                await asyncio.sleep(1.5)
                await crash(server, gateway, cycle=cycle)
                prober = asyncio.create_task(first_reply_after(gateway, seen, time.monotonic()))
                await repair(server, cycle=cycle)
                outcome.recoveries_s.append(await prober)
            await asyncio.sleep(1.5)
            over.set()
        await drained(gateway, directory)
    await check(server.url, seen.acknowledged, outcome)
    outcome.failed, outcome.left_on_disk = seen.failed, len(segments(directory))
    return outcome


async def check(url: str, acknowledged: dict[UUID, float], outcome: Outcome) -> None:
    """Compare what the clients were promised with the tables and the books."""
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection:
        await sweep_usage(connection)
        cursor = await connection.execute("select id from usage_record where posted_at is not null")
        billed = {row[0] for row in await cursor.fetchall()}
    outcome.acknowledged = len(acknowledged)
    outcome.lost = len(acknowledged.keys() - billed)
    engine = make_engine(url, pool_size=1)
    async with session_scope(make_sessions(engine)) as session:
        outcome.is_balanced = (await trial_balance(session)).balanced
    await engine.dispose()


def figures(outcome: Outcome) -> Sequence[Figure]:
    """`outcome` beside what was promised."""
    slowest = max(outcome.recoveries_s)
    return [
        Figure(
            name=f"acknowledged and lost, {len(outcome.recoveries_s)} crashes",
            measured=f"{outcome.lost} of {outcome.acknowledged:,} ({outcome.failed} were refused)",
            target="0",
            holds=outcome.lost == 0 and outcome.acknowledged > 0,
        ),
        Figure(
            name=f"until clients are served again, {AWAY_S:g} s of it without a server",
            measured=f"{slowest:.1f} s at most ({', '.join(f'{s:.1f}' for s in outcome.recoveries_s)})",
            target=f"<= {RECOVERY_S_MAX:g} s",
            holds=slowest <= RECOVERY_S_MAX,
        ),
        Figure(
            name="the books afterwards",
            measured="balanced" if outcome.is_balanced else "not balanced",
            target="balanced",
            holds=outcome.is_balanced,
        ),
    ]


def measure(*, cycles: int = CYCLES) -> Sequence[Figure]:
    """Crash a server of its own."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-") as name:
        directory = Path(name)
        server = EmbeddedPostgres(directory / "pg")
        try:
            upgrade(server.start())
            outcome = asyncio.run(run(server, directory / "spill", cycles=cycles))
        finally:
            server.destroy()
    return figures(outcome)
