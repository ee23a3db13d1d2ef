"""A hold resolves once, and an idempotency key has one effect.

300 holds, each settled by six connections at once with conflicting captures and voids; one key sent 40 times at once, for
the same transfer and for others.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psycopg

from raymart_billing.connections import Connection, Pool, make_pool
from raymart_billing.ledger.verify import verify
from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from support.books import Books, fetch
from support.figures import Figure

HOLDS = 300
CAPTURES = (7, 7, 0, 0, 10, 10)
"""What the six want to post of a hold of 10; 0 voids it."""
REPEATS = 40


def measure() -> Sequence[Figure]:
    """Holds that resolved once, and effects of a key."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-03-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            upgrade(server.owner_url)
            return asyncio.run(_measured(server))
        finally:
            server.destroy()


async def _measured(server: EmbeddedPostgres) -> Sequence[Figure]:
    async with make_pool(server.runtime_url, size_max=REPEATS) as pool:
        figures = [*await _races(Books(pool)), *await _repeats(Books(pool))]
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
        found = (await verify(connection, key=None, head=None)).findings
    figures.append(
        Figure(name="bad rows found afterwards", measured=str(len(found)), target="0", holds=not found)
    )
    return figures


async def _races(books: Books) -> Sequence[Figure]:
    await books.fund(10 * HOLDS)
    requests = [new_id() for _ in range(HOLDS)]
    for request_id in requests:
        await books.hold(request_id, 10)
    outcomes: Counter[str] = Counter()
    for request_id in requests:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_settle(books.pool, f"hold:{request_id}", amount)) for amount in CAPTURES
            ]
        outcomes.update(task.result() for task in tasks)
    rows = await books.fetch(
        "select count(*), count(distinct pending_id), coalesce(sum(amount) filter (where state = 'posted'), 0)"
        " from transfer where debit_account_id = %s and pending_id is not null",
        await books.account_id("customer_balance"),
    )
    [(resolutions, holds, posted)] = rows
    columns = await books.columns("customer_balance")
    once = resolutions == holds == HOLDS and columns.debits_pending == 0 and columns.debits_posted == posted
    other = {name: number for name, number in outcomes.items() if name not in {"posted", "voided", "refused"}}
    # Whole usages pass on what reaches clearing; single holds have left it there.
    await books.value(
        "select ledger_post_batch(array[%s], array[%s::bigint], array[%s::bigint], array[%s::bigint], array['usage_earning'])",
        f"test:{new_id()}", await books.account_id("usage_clearing"), await books.account_id("provider_payable"), posted,
    )  # fmt: skip
    return [
        Figure(
            name=f"6-way races x {HOLDS}: holds resolved once",
            measured=f"{holds} holds, {resolutions} resolutions, {posted:,} posted = {columns.debits_posted:,} debited",
            target=f"{HOLDS} of {HOLDS}, nothing pending",
            holds=once,
        ),
        Figure(
            name="answers other than posted, voided or refused",
            measured=str(other or 0),
            target="0",
            holds=not other,
        ),
    ]


async def _settle(pool: Pool, key: str, amount: int) -> str:
    async with pool.connection() as connection:
        try:
            [[state]] = await fetch(
                connection, "select ledger_post_hold(%s, %s, 'usage_charge')", key, amount
            )
        except psycopg.errors.UniqueViolation:
            return "refused"
        except psycopg.Error as error:
            return type(error).__name__
        return str(state)


async def _repeats(books: Books) -> Sequence[Figure]:
    await books.fund(1)
    debit, credit = await books.account_id("promotional_credit"), await books.account_id("customer_balance")

    async def send(connection: Connection, key: str, amount: int) -> str:
        statement = "select ledger_post_batch(array[%s], array[%s::bigint], array[%s::bigint], array[%s::bigint], array['credit_grant'])"
        try:
            [[new]] = await fetch(connection, statement, key, debit, credit, amount)
        except psycopg.errors.UniqueViolation:
            return "conflict"
        return "effect" if new else "replay"

    async def one(key: str, amount: int) -> str:
        async with books.pool.connection() as connection:
            return await send(connection, key, amount)

    async def at_once(key: str, amounts: Sequence[int]) -> Counter[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(key, amount)) for amount in amounts]
        return Counter(task.result() for task in tasks)

    same = await at_once(f"test:{new_id()}", [5] * REPEATS)
    other = await at_once(f"test:{new_id()}", list(range(1, REPEATS + 1)))
    return [
        Figure(
            name=f"one key x {REPEATS}, same body",
            measured=", ".join(f"{number} {name}" for name, number in sorted(same.items())),
            target=f"1 effect, {REPEATS - 1} replays",
            holds=same == {"effect": 1, "replay": REPEATS - 1},
        ),
        Figure(
            name=f"one key x {REPEATS}, each with another body",
            measured=", ".join(f"{number} {name}" for name, number in sorted(other.items())),
            target=f"1 effect, {REPEATS - 1} conflicts",
            holds=other == {"effect": 1, "conflict": REPEATS - 1},
        ),
    ]
