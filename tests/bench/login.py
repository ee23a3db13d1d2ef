"""Logging in over GraphQL: argon2id at OWASP's cost, the throttle in Redis, a session and its refresh token in PostgreSQL."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from raymart_core.clock import now
from raymart_core.ids import new_id
from raymart_local.postgres import EmbeddedPostgres
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.models import User
from raymart_marketplace.db.migrate import upgrade
from raymart_marketplace.db.session import session_scope
from support.api_server import PASSWORD, Api, api_server, control_settings, password_hash
from support.figures import Figure

PEOPLE = 60
ROUNDS = 5
AT_ONCE = 8
PER_CORE_S_MIN = 20.0
_CLOCK_TICKS_S = os.sysconf("SC_CLK_TCK")

# A process of its own, so that the client's CPU is not counted as the server's.
_CLIENT = textwrap.dedent(
    """
    import asyncio, json, sys
    import httpx

    url, password, at_once, emails = json.load(sys.stdin)
    QUERY = "mutation ($e: String!, $p: String!) { login(input: {email: $e, password: $p}) { token refreshToken userErrors { message } } }"

    async def main():
        turn = asyncio.Semaphore(at_once)
        async with httpx.AsyncClient(timeout=60) as client:
            async def log_in(email):
                async with turn:
                    sent = {"query": QUERY, "variables": {"e": email, "p": password}}
                    answer = (await client.post(url, json=sent)).json()["data"]["login"]
                    assert answer["token"] and answer["refreshToken"], answer
            await asyncio.gather(*(log_in(email) for email in emails))

    asyncio.run(main())
    """
)


def measure() -> Sequence[Figure]:
    """The server in this process, the client in another; CPU of the server, of PostgreSQL and of Redis."""
    with stores() as (database_url, redis_url, pids):
        own, others = asyncio.run(_rounds(database_url, redis_url, pids))
    total = [mine + theirs for mine, theirs in zip(own, others, strict=True)]
    per_core_s = PEOPLE / statistics.median(total)
    return [
        Figure(
            name="log-ins per second and core, everything counted",
            measured=f"{per_core_s:.1f} ({1000 / per_core_s:.1f} ms of CPU each, {ROUNDS} rounds of {PEOPLE})",
            target=f">= {PER_CORE_S_MIN:g}",
            holds=per_core_s >= PER_CORE_S_MIN,
        ),
        Figure(
            name="of that, PostgreSQL and Redis",
            measured=f"{1000 * statistics.median(others) / PEOPLE:.1f} ms",
            target="-",
            holds=True,
        ),
    ]


@contextmanager
def stores() -> Iterator[tuple[str, str, Sequence[int]]]:
    """A PostgreSQL and a Redis of this run, and the process ids whose CPU is theirs."""
    with tempfile.TemporaryDirectory(prefix="raymart-bench-login-") as folder:
        postgres, redis = EmbeddedPostgres(Path(folder) / "postgres"), EmbeddedRedis(Path(folder) / "redis")
        postgres.start()
        try:
            upgrade(postgres.owner_url)
            with redis:
                assert redis.pid is not None
                assert postgres.pid is not None
                yield postgres.runtime_url, redis.url, (redis.pid, postgres.pid)
        finally:
            postgres.destroy()


async def _rounds(
    database_url: str, redis_url: str, pids: Sequence[int]
) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds of CPU of each round: this process's, and the stores'."""
    own, others = [], []
    async with api_server(control_settings(database_url, redis_url=redis_url)) as api:
        emails = await _people(api)
        await _log_in(api, emails)  # Caches, plans and connections are warm afterwards.
        for _ in range(ROUNDS):
            mine, theirs = time.process_time(), _cpu_s(pids)
            await _log_in(api, emails)
            own.append(time.process_time() - mine)
            others.append(_cpu_s(pids) - theirs)
    return own, others


async def _people(api: Api) -> Sequence[str]:
    emails = [f"{new_id().hex}@example.com" for _ in range(PEOPLE)]
    async with session_scope(api.services.sessions) as session:
        session.add_all(
            User(email=email, name="A person", password_hash=password_hash(), email_verified_at=now())
            for email in emails
        )
    return emails


async def _log_in(api: Api, emails: Sequence[str]) -> None:
    given = json.dumps([f"http://127.0.0.1:{api.port}/graphql", PASSWORD, AT_ONCE, emails]).encode()
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CLIENT, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, error = await asyncio.wait_for(client.communicate(given), 120)
    assert client.returncode == 0, error.decode()


def _cpu_s(roots: Sequence[int]) -> float:
    """CPU of these processes and of all that they started, the ended ones included."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # It has ended meanwhile; its parent has counted it.
                continue
            pid = int(folder.name)
            parents[pid] = int(fields[1])
            seconds[pid] = sum(int(each) for each in fields[11:15]) / _CLOCK_TICKS_S
    family = set(roots)
    for _ in range(8):  # Deeper than PostgreSQL's family ever is.
        family |= {pid for pid, parent in parents.items() if parent in family}
    return sum(seconds.get(pid, 0.0) for pid in family)
