"""A revision is published, served and rolled back under load, and no request fails: real Ray, real replicas, two providers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from raymart_marketplace.catalog.aliases import roll_back
from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.catalog.service import publish_revision
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions, session_scope
from support.running_stack import MODEL, RunningStack, events, stories

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

CLIENTS = 6
"""Of 8 slots: while a machine changes over there is still room."""


@dataclass
class Load:
    """Clients that ask one story after the other, every second one streamed."""

    stack: RunningStack
    served: list[tuple[float, str]] = field(default_factory=list)
    """When each good answer ended, and by which revision (`system_fingerprint`)."""
    failed: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.stack.client() as client, asyncio.TaskGroup() as group:
            asking = [group.create_task(self._ask_on(client, number)) for number in range(CLIENTS)]
            try:
                yield
            finally:
                for task in asking:
                    task.cancel()

    async def _ask_on(self, client: httpx.AsyncClient, number: int) -> None:
        while True:
            number += 1
            body = stories(max_tokens=40, stream=number % 2 == 0)
            try:
                fingerprint = await self._ask(client, body)
            except (httpx.HTTPError, AssertionError) as error:
                self.failed.append(repr(error)[:500])
            else:
                self.served.append((time.monotonic(), fingerprint))

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any]) -> str:
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        if not body["stream"]:
            whole: dict[str, Any] = answer.json()
            return str(whole["system_fingerprint"])
        chunks = list(events(answer.text.splitlines()))
        assert not any("error" in chunk for chunk in chunks), answer.text[-500:]
        assert chunks[-1]["choices"][0]["finish_reason"] in {"stop", "length"}
        return str(chunks[-1]["system_fingerprint"])

    def only(self, revision: ModelRevision, *, since: float) -> bool:
        """Whether a dozen answers since then came from that revision and none from another."""
        after = [fingerprint for at, fingerprint in self.served if at > since]
        return len(after) >= 12 and set(after) == {fingerprint_of(revision)}


def fingerprint_of(revision: ModelRevision) -> str:
    return f"fp_{revision.digest.removeprefix('sha256:')[:12]}"


@pytest.fixture
async def sessions(stack: RunningStack) -> AsyncIterator[Sessions]:
    """The stack's own database."""
    engine = make_engine(stack.postgres.url, pool_size=2)
    yield make_sessions(engine)
    await engine.dispose()


async def until(holds: Callable[[], Awaitable[bool]], *, timeout_s: float, stack: RunningStack) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not await holds():
                await asyncio.sleep(0.5)
    except TimeoutError:
        placed = stack.rows("select state, desired, replicas_running, reason from placement")
        raise AssertionError(f"not within {timeout_s} s; placements {placed}\n{stack.tail()}") from None


async def test_no_request_fails_while_a_revision_comes_and_goes(ready: RunningStack, sessions: Sessions):
    async with session_scope(sessions) as session:
        model = (await session.scalars(select(Model).where(Model.slug == MODEL))).one()
        old = (await session.scalars(select(ModelRevision).where(ModelRevision.model_id == model.id))).one()

    async def offered(revision: ModelRevision) -> bool:
        """Whether it alone is offered, by both providers, and nothing else runs."""
        found = ready.rows(
            "select count(*) filter (where o.revision_id = %s), count(*) from offer o"
            " join model_revision r on r.id = o.revision_id where r.model_id = %s and o.state = 'open'",
            revision.id, model.id,
        )  # fmt: skip
        left = ready.rows(
            "select count(*) from placement p join model_revision r on r.id = p.revision_id"
            " where r.model_id = %s and p.revision_id <> %s and p.state <> 'gone'",
            model.id, revision.id,
        )  # fmt: skip
        return found == [(2, 2)] and left == [(0,)]

    load = Load(ready)
    async with load.running():
        await asyncio.sleep(3)
        async with session_scope(sessions) as session:
            new = await publish_revision(
                session,
                model=model,
                engine=old.engine,
                source=old.source,
                sha256=old.sha256,
                quantization=old.quantization,
                context_length=old.context_length // 2,
                capabilities=old.capabilities,
            )
        published_at = time.monotonic()
        await until(lambda: offered(new), timeout_s=240, stack=ready)
        forth_s, settled_at = time.monotonic() - published_at, time.monotonic()
        await asyncio.sleep(5)
        assert load.only(new, since=settled_at)

        async with session_scope(sessions) as session:
            await roll_back(session, model_id=model.id)
        rolled_back_at = time.monotonic()
        await until(lambda: offered(old), timeout_s=240, stack=ready)
        back_s, settled_at = time.monotonic() - rolled_back_at, time.monotonic()
        await asyncio.sleep(5)
        assert load.only(old, since=settled_at)

    figures = f"rollout {forth_s:.0f} s, rollback {back_s:.0f} s, {len(load.served)} served"
    print(figures)  # noqa: T201 - a figure of docs/benchmarks.md
    assert load.failed == []
    assert ready.books()["balanced"]
