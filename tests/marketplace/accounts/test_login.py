"""Logging in with a password: who gets in, what is told, what is counted."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import event, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from raymart_core.errors import NotAuthenticated, Overloaded
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts import password_work
from raymart_marketplace.accounts.login import WRONG, PasswordLogin
from raymart_marketplace.accounts.login_limits import LoginLimits, network_of
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.password_work import PasswordWork
from raymart_marketplace.accounts.passwords import NOBODYS_HASH, is_outdated
from raymart_marketplace.accounts.service import set_password
from raymart_marketplace.accounts.throttle import Throttle
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.shared_state import make_redis
from support.market import PASSWORD, Customer, make_customer, unique


@pytest.fixture
async def login(sessions: Sessions, redis_server: EmbeddedRedis) -> AsyncIterator[PasswordLogin]:
    redis, work = make_redis(redis_server.url), PasswordWork()
    yield PasswordLogin(sessions, LoginLimits(Throttle(redis), redis), work)
    work.close()
    await redis.aclose()


@pytest.fixture
async def customer(sessions: Sessions) -> Customer:
    async with session_scope(sessions) as session:
        return await make_customer(session)


def somewhere() -> str:
    """An address that no other test has: its counters are its own."""
    return f"2001:db8:{unique('')[1:5]}:{unique('')[1:5]}::1"


async def failures(login: PasswordLogin, email: str, address: str, tries: int) -> int:
    """How many wrong passwords are looked at before the throttle says wait."""
    for count in range(tries):
        try:
            await login.prove(email=email, password="wrong password", address=address)
        except NotAuthenticated:
            continue
        except Overloaded:
            return count
    return tries


class TestProve:
    async def test_right_password_gives_the_user_however_the_address_is_typed(
        self, login: PasswordLogin, customer: Customer
    ):
        user = await login.prove(email=f" {customer.email.title()}", password=PASSWORD, address=somewhere())
        assert user.id == customer.user.id

    async def test_each_failure_says_the_same_and_writes_nothing(
        self, login: PasswordLogin, customer: Customer, sessions: Sessions, engine: AsyncEngine
    ):
        async with session_scope(sessions) as session:
            disabled = await make_customer(session)
            await session.execute(
                update(User).where(User.id == disabled.user.id).values(disabled_at=func.now())
            )
        tries = [
            (customer.email, "wrong password"),
            (customer.email, ""),
            (customer.email, "a" * 1_000_000),
            (customer.email, "\ud800" * 12),
            (disabled.email, PASSWORD),
            (f"{unique('nobody')}@example.com", PASSWORD),
            ("no address", PASSWORD),
            ("a\0@example.com", PASSWORD),
            ("\ud800@example.com", PASSWORD),
        ]
        messages, statements = set(), []

        def note(*said: Any) -> None:
            statements.append(said[2])

        event.listen(engine.sync_engine, "before_cursor_execute", note)
        for email, password in tries:
            with pytest.raises(NotAuthenticated) as refusal:
                await login.prove(email=email, password=password, address=somewhere())
            messages.add(refusal.value.message)
        assert messages == {WRONG}
        assert statements, "it was listened to"
        assert {statement.split()[0] for statement in statements} == {"SELECT"}

    async def test_unknown_address_is_hashed_for_too(self, login: PasswordLogin, monkeypatch):
        """The time of the answer must not tell which addresses have accounts."""
        seen = []
        monkeypatch.setattr(password_work, "verify_password", lambda _, kept: seen.append(kept) or False)
        with pytest.raises(NotAuthenticated):
            await login.prove(email=f"{unique('nobody')}@example.com", password=PASSWORD, address=somewhere())
        assert seen == [NOBODYS_HASH]

    async def test_new_password_replaces_the_old(
        self, login: PasswordLogin, customer: Customer, sessions: Sessions
    ):
        async with session_scope(sessions) as session:
            await set_password(session, user_id=customer.user.id, password="another password")
        await login.prove(email=customer.email, password="another password", address=somewhere())
        with pytest.raises(NotAuthenticated):
            await login.prove(email=customer.email, password=PASSWORD, address=somewhere())

    async def test_outdated_hash_is_made_anew(
        self, login: PasswordLogin, customer: Customer, sessions: Sessions
    ):
        old = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=1_024, parallelism=1),))
        async with session_scope(sessions) as session:
            user = await session.get_one(User, customer.user.id)
            user.password_hash = old.hash(PASSWORD)
        await login.prove(email=customer.email, password=PASSWORD, address=somewhere())
        async with session_scope(sessions) as session:
            kept = await session.scalar(select(User.password_hash).where(User.id == customer.user.id))
        assert kept is not None
        assert not is_outdated(kept)
        await login.prove(email=customer.email, password=PASSWORD, address=somewhere())


class TestThrottling:
    @pytest.fixture(autouse=True)
    def _fast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hundreds of tries, none of which is about argon2."""
        monkeypatch.setattr(password_work, "verify_password", lambda password, _: password == PASSWORD)

    async def test_sixth_wrong_password_waits_and_so_does_the_right_one(
        self, login: PasswordLogin, customer: Customer
    ):
        address = somewhere()
        assert await failures(login, customer.email, address, 20) == 5
        with pytest.raises(Overloaded):
            await login.prove(email=customer.email, password=PASSWORD, address=address)

    async def test_stranger_cannot_lock_the_owner_out(self, login: PasswordLogin, customer: Customer):
        """From where they log in otherwise, the owner gets in whatever is tried from elsewhere."""
        home = somewhere()
        await login.prove(email=customer.email, password=PASSWORD, address=home)
        strangers = [await failures(login, customer.email, somewhere(), 5) for _ in range(22)]
        assert sum(strangers) == 100, "and all strangers together wait by now"
        user = await login.prove(email=customer.email, password=PASSWORD, address=home)
        assert user.id == customer.user.id

    async def test_one_address_cannot_try_many_accounts(self, login: PasswordLogin):
        address = somewhere()
        tried = 0
        for _ in range(15):
            tried += await failures(login, f"{unique('someone')}@example.com", address, 4)
        assert tried == 50

    async def test_unknown_accounts_are_throttled_alike(self, login: PasswordLogin):
        """Else the throttle would tell which addresses have accounts."""
        assert await failures(login, f"{unique('nobody')}@example.com", somewhere(), 20) == 5

    async def test_mistyping_is_forgotten_by_a_success(self, login: PasswordLogin, customer: Customer):
        address = somewhere()
        for _ in range(4):
            assert await failures(login, customer.email, address, 3) == 3
            await login.prove(email=customer.email, password=PASSWORD, address=address)


class TestNetworkOf:
    @pytest.mark.parametrize(
        ("address", "network"),
        [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ],
    )
    def test_ipv6_counts_by_its_64_bits(self, address: str, network: str):
        assert network_of(address) == network

    def test_text_that_is_no_address_still_has_a_counter(self):
        assert network_of("") != network_of("unix socket")


class TestPasswordWork:
    async def test_bounded_number_at_once_off_the_loop(self, monkeypatch):
        inside, most, threads = 0, 0, set()
        go = threading.Event()

        def verify(*_: str) -> bool:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            threads.add(threading.get_ident())
            go.wait(20)
            inside -= 1
            return True

        monkeypatch.setattr(password_work, "verify_password", verify)
        work = PasswordWork(at_once_max=2, waiting_max=3)
        tries = [asyncio.create_task(work.verify("a", "b")) for _ in range(8)]
        done, waiting = await asyncio.wait(tries, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            more, waiting = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert all(isinstance(each.exception(), Overloaded) for each in done)
        go.set()
        assert await asyncio.gather(*waiting) == [True] * 5
        assert most == 2
        assert threading.get_ident() not in threads
        assert await work.verify("a", "b"), "there is room again"
        work.close()
