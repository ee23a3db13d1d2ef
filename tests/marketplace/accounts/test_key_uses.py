"""Last use: written at most once a minute, beside the hot path, whoever uses the key."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from raymart_core.ids import new_id
from raymart_marketplace.accounts.key_uses import NOTED_MAX, KeyUses, KeyUseWriter
from raymart_marketplace.accounts.models import ApiKey
from raymart_marketplace.accounts.service import create_api_key
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions, session_scope
from support.market import make_customer


@pytest.fixture
async def key(sessions: Sessions) -> ApiKey:
    async with session_scope(sessions) as session:
        customer = await make_customer(session)
        made, _ = await create_api_key(
            session, project_id=customer.project_id, user_id=customer.user.id, name="key"
        )
    return made


async def last_use(sessions: Sessions, key: ApiKey):
    async with session_scope(sessions) as session:
        return await session.scalar(select(ApiKey.last_used_at).where(ApiKey.id == key.id))


class TestWriter:
    async def test_use_is_written_once_a_minute_by_however_many_processes(self, sessions, key):
        uses = [KeyUses(), KeyUses()]
        writers = [KeyUseWriter(sessions, each) for each in uses]
        for each in uses:
            each.note(key.id)
        await asyncio.gather(*(writer.write() for writer in writers))
        first = await last_use(sessions, key)
        assert first is not None
        uses[0].note(key.id)
        await writers[0].write()
        assert await last_use(sessions, key) == first
        async with session_scope(sessions) as session:
            earlier = func.clock_timestamp() - timedelta(minutes=2)
            await session.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=earlier))
        uses[1].note(key.id)
        await writers[1].write()
        assert await last_use(sessions, key) > first

    async def test_writer_does_not_wait_for_whoever_changes_the_key(self, sessions, key):
        uses = KeyUses()
        uses.note(key.id)
        async with session_scope(sessions) as session:
            await session.execute(update(ApiKey).where(ApiKey.id == key.id).values(name="changed"))
            async with asyncio.timeout(30):
                await KeyUseWriter(sessions, uses).write()
        assert await last_use(sessions, key) is None

    async def test_uses_outlive_an_outage(self, sessions, key):
        engine = make_engine("postgresql://raymart:x@127.0.0.1:1/raymart")
        uses = KeyUses()
        uses.note(key.id)
        await KeyUseWriter(make_sessions(engine), uses).write()
        assert len(uses) == 1
        await KeyUseWriter(sessions, uses).write()
        assert await last_use(sessions, key) is not None
        assert len(uses) == 0
        await engine.dispose()

    async def test_stopping_writes_what_is_left(self, sessions, key):
        uses = KeyUses()
        writer = KeyUseWriter(sessions, uses, write_every_s=3_600)
        writer.start()
        uses.note(key.id)
        await writer.stop()
        assert await last_use(sessions, key) is not None


class TestUses:
    def test_memory_is_bounded(self):
        uses = KeyUses()
        for _ in range(NOTED_MAX + 10):
            uses.note(new_id())
        assert len(uses) == NOTED_MAX
