"""A completed reply is a recorded reply: gateways are killed under load, and nothing that was acknowledged is missing.

Real gateway processes, each with customers that ask and stream without end, die by SIGKILL. Then the sweep does its work,
and what the clients saw is compared with the tables: every whole reply is recorded, every stream is billed for what was
delivered but its last moments, leases are given back within their time to live, and the books balance.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raymart_billing.connections import make_pool
from raymart_billing.holds.limits import LeaseLimits
from raymart_billing.holds.sweep import sweep_holds, sweep_leases
from raymart_billing.ledger import trial_balance
from raymart_billing.posting import recover_checkpoints, sweep_usage
from raymart_billing.posting.recover import GRACE_S
from raymart_billing.spill import drain
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from support.chaos_load import GatewayProcess, Seen, forever, gateways, serve
from support.figures import Figure
from support.scripted_replica import ScriptedReplica

KILLS = 30
AT_ONCE = 3
ASKING, STREAMING = 4, 3
"""Customers of each gateway."""
LOST_S_MAX = 2.0


@dataclass(slots=True)
class Outcome:
    """What was found after all kills."""

    kills: int = 0
    acknowledged: int = 0
    unrecorded: int = 0
    streams: int = 0
    lost_s: float = 0.0
    """The most that a stream lost: from the delivery of the last token billed to the kill."""
    unbilled_streams: int = 0
    """Streams older than the bound with no bill at all."""
    recovery_s: float = 0.0
    """Of the leases, from the last kill of their gateway."""
    is_balanced: bool = False


async def load_and_kill(gateway: GatewayProcess, seen: Seen) -> float:
    """Load on `gateway` until it is killed, 2 to 4 seconds in; returns when."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(ASKING):
            group.create_task(forever(lambda: gateway.ask(seen), until=over))
        for _ in range(STREAMING):
            group.create_task(gateway.follow(seen))
        await asyncio.sleep(random.uniform(2.0, 4.0))
        killed_at = await asyncio.to_thread(gateway.kill)
        over.set()
    return killed_at


async def sweep(url: str, directory: Path, *, grace_s: float) -> int:
    """One sweep, in its order; returns the nano-USD that are still held."""
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection:
        await drain(connection, directory=directory, stream=None)
        await recover_checkpoints(connection, grace_s=grace_s)
        await sweep_usage(connection)
        await sweep_leases(connection)
        await sweep_holds(connection)
        cursor = await connection.execute(
            "select coalesce(sum(debits_pending), 0)::bigint from ledger_account"
        )
        [held] = await cursor.fetchone()
        return held


async def run(url: str, directory: Path, *, kills: int, at_once: int, is_patient: bool) -> Outcome:
    """Kill `kills` gateways, `at_once` side by side, and look what became of it; `is_patient` awaits the leases' end."""
    outcome, rounds = Outcome(), []
    async with ScriptedReplica(serve) as replica:
        while outcome.kills < kills:
            async with gateways(url, at_once, replica=replica, directory=directory) as started:
                seen = [Seen() for _ in started]
                killed = await asyncio.gather(*map(load_and_kill, started, seen))
                rounds += list(zip(seen, killed, strict=True))
            outcome.kills += at_once
    last_kill = max(killed_at for _, killed_at in rounds)
    async with asyncio.timeout(90):
        while await sweep(url, directory, grace_s=GRACE_S if is_patient else 0) and is_patient:
            await asyncio.sleep(0.5)
    outcome.recovery_s = time.monotonic() - last_kill
    await check(url, rounds, outcome)
    return outcome


async def check(url: str, rounds: Sequence[tuple[Seen, float]], outcome: Outcome) -> None:
    """Compare what the clients saw with the tables."""
    async with make_pool(url, size_max=1) as pool, pool.connection() as connection:
        cursor = await connection.execute(
            "select id, tokens_completion from usage_record where posted_at is not null"
        )
        billed = dict(await cursor.fetchall())
    for seen, killed_at in rounds:
        outcome.acknowledged += len(seen.acknowledged)
        outcome.unrecorded += len(seen.acknowledged.keys() - billed.keys())
        for stream in seen.streams:
            outcome.streams += 1
            times, tokens = stream.token_times, billed.get(stream.request_id, 0)
            if stream.is_complete:
                outcome.unrecorded += tokens < len(times)
            elif times and killed_at - times[0] > LOST_S_MAX and not tokens:
                outcome.unbilled_streams += 1
            elif tokens and tokens < len(times):
                # The first token that the customer has and is not billed for.
                outcome.lost_s = max(outcome.lost_s, killed_at - times[tokens])
    engine = make_engine(url, pool_size=1)
    async with session_scope(make_sessions(engine)) as session:
        outcome.is_balanced = (await trial_balance(session)).balanced
    await engine.dispose()


def figures(outcome: Outcome) -> Sequence[Figure]:
    """`outcome` beside what was promised."""
    ttl_s, restart_s = LeaseLimits().ttl_s, 5.0
    return [
        Figure(
            name=f"acknowledged but unrecorded, {outcome.kills} kills",
            measured=f"{outcome.unrecorded} of {outcome.acknowledged:,} replies and {outcome.streams} streams",
            target="0",
            holds=outcome.unrecorded == 0 and outcome.acknowledged > 0,
        ),
        Figure(
            name="delivery of a stream that was lost with its gateway",
            measured=f"{outcome.lost_s:.2f} s at most, {outcome.unbilled_streams} streams without a bill",
            target="<= 2 s",
            holds=outcome.lost_s <= LOST_S_MAX and outcome.unbilled_streams == 0,
        ),
        Figure(
            name="leases and holds of the dead recovered",
            measured=f"{outcome.recovery_s:.1f} s after the last kill",
            target=f"<= {ttl_s:g} s (their TTL) + {restart_s:g} s (a sweep)",
            holds=outcome.recovery_s <= ttl_s + restart_s,
        ),
        Figure(
            name="the books afterwards",
            measured="balanced" if outcome.is_balanced else "not balanced",
            target="balanced",
            holds=outcome.is_balanced,
        ),
    ]


def measure(*, kills: int = KILLS, at_once: int = AT_ONCE, is_patient: bool = True) -> Sequence[Figure]:
    """Kill gateways on a server of its own."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-") as name:
        directory = Path(name)
        server = EmbeddedPostgres(directory / "pg")
        try:
            upgrade(server.start())
            outcome = asyncio.run(
                run(server.url, directory / "spill", kills=kills, at_once=at_once, is_patient=is_patient)
            )
        finally:
            server.destroy()
    return figures(outcome)
