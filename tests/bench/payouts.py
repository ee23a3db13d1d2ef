"""Payouts: from an approved batch to finalized on chain and settled in the ledger, 2,280 payees in 40 transactions.

A development chain of its own process with 400 ms slots (so that finality takes 12.8 s), two endpoints of it over HTTP,
PostgreSQL that keeps its promises about disks, and one worker as Celery's solo pool runs it: a tick every 2 s, and the
hint that an approval gives. The clock runs from the approval's commit to the moment at which the batch is finalized, every
item paid and every movement posted. The payees have token accounts.
"""

import asyncio
import queue
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
from pydantic import SecretStr
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from raymart_billing.payouts.approving import PartLimits, approve_batch
from raymart_billing.payouts.sending import tasks
from raymart_billing.solana.addresses import token_account
from raymart_billing.work.hints import give_hints
from raymart_billing.work.process import WorkProcess
from raymart_billing.work.registry import by_name
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import make_engine, make_sessions, session_scope
from raymart_marketplace.settings import ControlSettings
from support.dev_chain_process import DevChainProcess
from support.figures import Figure
from support.payout_crowd import planned_crowd

PAYEES, PART = 2_280, 57
MICRO_USDC = 1_000_000
SLOT_MS = 400.0
TICK_S = 2.0
"""As Celery beat does (`work_tick_s`)."""
MUST_PER_S = 120.0
GIVE_UP_S = 180.0


def measure() -> Sequence[Figure]:
    """Start everything, pay everybody, stop everything."""
    with (
        tempfile.TemporaryDirectory(prefix="raymart-bench-payouts-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as server,
        DevChainProcess(Path(folder) / "chain", slot_ms=SLOT_MS) as chain,
    ):
        upgrade(server.owner_url)
        return asyncio.run(_measure(server, chain))


async def _measure(server: EmbeddedPostgres, chain: DevChainProcess) -> Sequence[Figure]:
    mint = Pubkey.from_string(chain.told["usdc_mint"])
    wallets = [Keypair().pubkey() for _ in range(PAYEES)]
    for wallet in wallets:  # Which opens the token account.
        chain.ask("devchain_giveTokens", str(wallet), 1)
    await asyncio.sleep(32 * SLOT_MS / 1_000 + 2)
    payees = [(str(wallet), str(token_account(wallet, mint))) for wallet in wallets]
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
        batch_id = await planned_crowd(connection, payees, mint=str(mint), micro_usdc=MICRO_USDC)
        with worker(server, chain) as hints:
            await asyncio.sleep(2 * TICK_S)  # It has connected, and looked once for nothing.
            await approve(server, connection, batch_id, hints)
            begun = time.perf_counter()
            await _finalized(connection, batch_id, begun)
            took_s = time.perf_counter() - begun
        paid = sum(balance_of(chain, account) - 1 for _, account in payees[:: PAYEES // 100])
        attempts = await _count(connection, "select count(*) from payout_attempt")
        settled = await _count(connection, "select count(*) from transfer where code = 'payout_settled'")
    rate = PAYEES / took_s
    return [
        Figure(
            name=f"finalized and settled payouts, {PAYEES:,} in {PAYEES // PART} transactions",
            measured=f"{rate:.0f}/s, {took_s:.1f} s of which finality is {32 * SLOT_MS / 1_000:.1f} s",
            target=f"must >= {MUST_PER_S:.0f}/s",
            holds=rate >= MUST_PER_S,
        ),
        Figure(
            name="attempts; settled in the ledger; every 22nd payee's balance",
            measured=f"{attempts}; {settled:,}; {paid / MICRO_USDC:.0f} USDC of {len(payees[:: PAYEES // 100])}",
            target=f"{PAYEES // PART}; {PAYEES:,}; all",
            holds=settled == PAYEES and paid == MICRO_USDC * len(payees[:: PAYEES // 100]),
        ),
    ]


async def approve(
    server: EmbeddedPostgres, connection: psycopg.AsyncConnection, batch_id: UUID, hints: "queue.Queue[UUID]"
) -> None:
    """One person approves the batch, as over the API: after the commit a worker is told of each part."""
    user_id = new_id()
    await connection.execute(
        "insert into \"user\" (id, email, name, password_hash) values (%s, 'bench@example.com', 'A', 'x')",
        (user_id,),
    )
    engine = make_engine(server.runtime_url, pool_size=1)
    sessions = make_sessions(engine)
    give_hints(sessions, hints.put)
    limits = PartLimits(payees_max=PART, total_max=Money(PART * MICRO_USDC, Asset.USDC))
    total = Money(PAYEES * MICRO_USDC, Asset.USDC)
    async with session_scope(sessions) as session:
        await approve_batch(session, batch_id, user_id=user_id, total=total, limits=limits)
    await engine.dispose()


@contextmanager
def worker(server: EmbeddedPostgres, chain: DevChainProcess) -> Iterator["queue.Queue[UUID]"]:
    """A worker of one thread that takes hints and beat's ticks as Celery's solo pool does; yields where hints go.

    It has the tasks of sending only, so that nothing else is timed.
    """
    settings = ControlSettings(
        DATABASE_URL=server.runtime_url,
        SOLANA_RPC_URL=f"{chain.url},{chain.url}/nodes/second",
        token_secret=SecretStr("s" * 32),
        solana_chain_id="solana:localnet",
        usdc_mint=chain.told["usdc_mint"],
        treasury_address=chain.told["treasury"],
        treasury_keypair=chain.treasury_keypair,
        payout_marker_key=SecretStr("k" * 32),
    )
    process = WorkProcess(settings, by_name(tasks.TASKS, tasks.PERIODICS))
    hints: queue.Queue[UUID] = queue.Queue(maxsize=1_000)
    stopping = threading.Event()

    def work() -> None:
        beat_at = time.monotonic()
        while not stopping.is_set():
            try:
                process.drain(hints.get(timeout=max(beat_at - time.monotonic(), 0.001)))
            except queue.Empty:
                # Beat goes on while a tick runs: one that waits in the queue is run at once.
                beat_at = max(beat_at + TICK_S, time.monotonic())
                process.tick()

    thread = threading.Thread(target=work, name="bench-worker")
    thread.start()
    try:
        yield hints
    finally:
        stopping.set()
        thread.join()
        process.close()


async def _finalized(connection: psycopg.AsyncConnection, batch_id: UUID, begun: float) -> None:
    while time.perf_counter() - begun < GIVE_UP_S:
        if await _count(
            connection, "select count(*) from payout_batch where id = %s and state = 'finalized'", batch_id
        ):
            return
        await asyncio.sleep(0.05)
    rows = await (
        await connection.execute("select state, state_reason, count(*) from payout_part group by 1, 2")
    ).fetchall()
    raise AssertionError(f"not finalized within {GIVE_UP_S:.0f} s: {rows}")


def balance_of(chain: DevChainProcess, account: str) -> int:
    return int(chain.ask("getTokenAccountBalance", account)["value"]["amount"])


async def _count(connection: psycopg.AsyncConnection, statement: str, *parameters: object) -> int:
    row = await (await connection.execute(statement.encode(), parameters)).fetchone()
    assert row is not None
    return int(row[0])
