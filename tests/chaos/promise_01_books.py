"""The books balance and nothing in them changes: 100,000 random operations, and attacks as runtime, owner and superuser.

The operations run as the runtime's role, a model per database, side by side; after each operation all columns of all
accounts are compared, and at the end every database is verified. Then each attack is tried in each role, and edits behind
the guards, as a superuser can make them, must be named. `RAYMART_BOOKS_OPERATIONS` sets another number.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from migrations.test_roles import AS_OWNER, AS_RUNTIME

from raymart_billing.ledger.verify import Verification, verify
from raymart_local.postgres import EmbeddedPostgres
from raymart_marketplace.db.migrate import upgrade
from support.figures import Figure
from support.ledger_model import LedgerModel, Violation
from support.sealed_books import SEAL_KEY, fill

OPERATIONS = int(os.environ.get("RAYMART_BOOKS_OPERATIONS", "100000"))
SIDE_BY_SIDE = 4
OPERATIONS_PER_MODEL = 1_000
EDITS = (
    ("amount", "update transfer set amount = amount + 1 where id = {0}"),
    ("code", "update transfer set code = 'adjustment_credit' where id = {0}"),
    ("time", "update transfer set created_at = created_at - interval '1 day' where id = {0}"),
    ("row", "delete from transfer where id = {0}"),
    ("owner of its account", (
        "update ledger_account set owner_id = gen_random_uuid()"
        " where id = (select debit_account_id from transfer where id = {0})"
    )),
    ("balance", "update ledger_account set credits_posted = credits_posted + 1 where kind = 'platform_fee'"),
    ("seal", "update transfer_seal set hash = sha256(hash) where transfer_id = {0}"),
)  # fmt: skip


def measure() -> Sequence[Figure]:
    """Operations and violations, attacks and refusals, edits and those that were named."""
    with tempfile.TemporaryDirectory(prefix="raymart-chaos-01-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            upgrade(server.owner_url)
            return [*_operations(server), *_attacks(server), _edits(server)]
        finally:
            server.destroy()


def _operations(server: EmbeddedPostgres) -> Sequence[Figure]:
    names = [f"model_{number}" for number in range(SIDE_BY_SIDE)]
    for name in names:
        _copy(server, name, template="raymart")
    begun = time.monotonic()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        runs = list(threads.map(lambda name: _one_run(_at(server.runtime_url, name), name), names))
    seconds = time.monotonic() - begun
    operations = sum(done for done, _ in runs)
    bad = [said for _, said in runs if said]
    for name in names:
        bad += [found.text for found in asyncio.run(_verified(_at(server.url, name))).findings]
    return [
        Figure(
            name="random operations compared with the model",
            measured=f"{operations:,} in {seconds:.0f} s",
            target=f"{OPERATIONS:,}",
            holds=operations >= OPERATIONS,
        ),
        Figure(name="violations", measured=" ".join([str(len(bad)), *bad[:1]]), target="0", holds=not bad),
    ]


def _one_run(url: str, name: str) -> tuple[int, str]:
    """(operations, what was violated)."""
    done = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while done < OPERATIONS / SIDE_BY_SIDE:
            # The seed is the database's name and how far it is, so that a violation can be run again.
            model = LedgerModel(connection, seed=int(name[-1]) * 1_000_000 + done)
            try:
                model.run(OPERATIONS_PER_MODEL)
            except Violation as violation:
                return done + model.operations, f"{name}: {violation}"
            done += model.operations
    return done, ""


def _copy(server: EmbeddedPostgres, name: str, *, template: str) -> None:
    with psycopg.connect(_at(server.url, "postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")


def _at(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _attacks(server: EmbeddedPostgres) -> Sequence[Figure]:
    figures = []
    owner = {name: attack for name, attack in AS_OWNER.items() if attack != "late"}
    superuser = {name: attack for name, attack in owner.items() if not name.endswith(("superuser", "role"))}
    for role, url, attacks in (
        ("runtime", server.runtime_url, AS_RUNTIME),
        ("owner and migrator", server.owner_url, owner),
        ("superuser", server.url, superuser),
    ):
        refused = sum(_is_refused(url, attack) for attack in attacks.values())
        figures.append(
            Figure(
                name=f"attacks refused as {role}",
                measured=f"{refused} of {len(attacks)}",
                target="all",
                holds=refused == len(attacks),
            )
        )
    return figures


def _is_refused(url: str, attack: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(attack)
        except psycopg.Error:
            return True
    return False


def _edits(server: EmbeddedPostgres) -> Figure:
    """Edit behind the guards, as a superuser can, each in a copy of sealed books."""
    _copy(server, "books", template="raymart")
    asyncio.run(fill(_at(server.url, "books")))
    named = []
    for number, (name, edit) in enumerate(EDITS):
        _copy(server, f"edited_{number}", template="books")
        if asyncio.run(_is_named(_at(server.url, f"edited_{number}"), edit)):
            named.append(name)
    return Figure(
        name="edits with the triggers off that verify names",
        measured=f"{len(named)} of {len(EDITS)}: {', '.join(named)}",
        target="all",
        holds=len(named) == len(EDITS),
    )


async def _is_named(url: str, edit: str) -> bool:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        if (await verify(connection, key=SEAL_KEY, head=None)).findings:
            return False
        cursor = await connection.execute("select min(id) from transfer where code = 'usage_fee'")
        [transfer_id] = await cursor.fetchone() or [0]
        await connection.execute("set session_replication_role = replica")
        await connection.execute(edit.format(transfer_id).encode())
        return bool((await verify(connection, key=SEAL_KEY, head=None)).findings)


async def _verified(url: str) -> Verification:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await verify(connection, key=None, head=None)
