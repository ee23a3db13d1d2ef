"""A revocation reaches other processes through Redis, and does not depend on it."""

import asyncio
from uuid import UUID

import pytest
import structlog

from raymart_core.ids import new_id
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts.forgetting import CHANNEL, Forgetting
from raymart_marketplace.shared_state import make_redis
from support.link_market import until


class Memory:
    """Stands where an authenticator does, and writes down what it is told to forget."""

    def __init__(self) -> None:
        self.keys: list[UUID] = []
        self.users: list[UUID] = []
        self.sessions: list[UUID] = []
        self.projects: list[UUID] = []

    def forget(self, api_key_id: UUID) -> None:
        self.keys.append(api_key_id)

    def forget_user(self, user_id: UUID) -> None:
        self.users.append(user_id)

    def forget_session(self, session_id: UUID) -> None:
        self.sessions.append(session_id)

    def forget_project(self, project_id: UUID) -> None:
        self.projects.append(project_id)


@pytest.fixture
async def redis(redis_server):
    client = make_redis(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def two(redis):
    """Two processes' forgetting with what each remembers."""
    memories = [Memory(), Memory()]
    both = [Forgetting(memory, redis) for memory in memories]
    for each in both:
        each.start()
    await until(lambda: all(each.listening.is_set() for each in both))
    yield both, memories
    for each in both:
        await each.stop()


class TestForgetting:
    async def test_both_processes_forget(self, two):
        [here, _], memories = two
        key, user, session, project = new_id(), new_id(), new_id(), new_id()
        await here.key(key)
        await here.user(user)
        await here.project(project)
        await here.session(session)
        for memory in memories:
            await until(lambda memory=memory: session in memory.sessions)
            assert (set(memory.keys), set(memory.users), set(memory.projects)) == ({key}, {user}, {project})

    async def test_news_that_is_none_is_passed_over(self, two, redis):
        [here, _], memories = two
        for noise in (
            b"",
            b"key",
            b"key:zz",
            b"planet:" + new_id().hex.encode(),
            b"\xff\xfe",
            b"key:" + b"1" * 33,
        ):
            await redis.publish(CHANNEL, noise)
        key = new_id()
        await here.key(key)
        await until(lambda: key in memories[1].keys)
        assert memories[1].keys == [key]

    async def test_without_redis_the_process_itself_forgets_and_says_so_once(self):
        client, memory = make_redis("redis://127.0.0.1:1/0"), Memory()
        alone = Forgetting(memory, client)
        with structlog.testing.capture_logs() as events:
            alone.start()
            key = new_id()
            await alone.key(key)
            assert memory.keys == [key]
            await until(lambda: [each["event"] for each in events].count("forgetting.deaf") == 1)
            await alone.stop()
        assert sorted(each["event"] for each in events) == ["forgetting.deaf", "forgetting.untold"]
        await client.aclose()

    async def test_it_listens_again_after_an_outage(self, tmp_path):
        with EmbeddedRedis(tmp_path / "redis") as server:
            client, memory = make_redis(server.url), Memory()
            listening = Forgetting(memory, client)
            listening.start()
            await until(listening.listening.is_set)
            await asyncio.to_thread(server.stop)
            await until(lambda: not listening.listening.is_set())
            await asyncio.to_thread(server.start)
            await until(listening.listening.is_set)
            key = new_id()
            await client.publish(CHANNEL, f"key:{key.hex}")
            await until(lambda: memory.keys == [key])
            await listening.stop()
            await client.aclose()
