"""Who is calling: the right ones, at the right price, and nobody else; nothing is ever written."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
import structlog
from sqlalchemy import event, func, update
from sqlalchemy.ext.asyncio import AsyncEngine

from raymart_core.errors import Forbidden, NotAuthenticated, Unavailable
from raymart_core.ids import new_id
from raymart_marketplace.accounts.api_keys import make_key
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.models import ApiKey, Membership, OrganizationKind, Role, User
from raymart_marketplace.accounts.service import (
    add_member,
    create_api_key,
    create_user,
    platform_organization,
    revoke_api_key,
)
from raymart_marketplace.accounts.tokens import AccessTokens
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions, session_scope
from support.fixed_clock import FixedClock, Hand
from support.market import Customer, make_customer


def make_tokens(clock: FixedClock | None = None, *, ttl_s: int = 900) -> AccessTokens:
    return AccessTokens(b"s" * 32, issuer="raymart", audience="raymart-api", ttl_s=ttl_s, clock=clock)


@pytest.fixture
def tokens() -> AccessTokens:
    return make_tokens()


@pytest.fixture
def authenticator(sessions: Sessions, tokens: AccessTokens) -> Authenticator:
    return Authenticator(sessions, tokens)


@pytest.fixture
async def customer(sessions: Sessions) -> Customer:
    async with session_scope(sessions) as session:
        return await make_customer(session)


async def key_of(sessions: Sessions, customer: Customer) -> tuple[ApiKey, bytes]:
    """A fresh key and its header."""
    async with session_scope(sessions) as session:
        key, text = await create_api_key(
            session,
            project_id=customer.project_id,
            user_id=customer.user.id,
            name="key",
        )
    return key, f"Bearer {text}".encode()


@pytest.fixture
def statements(engine: AsyncEngine) -> list[str]:
    """What is sent to the database, as it is sent."""
    sent: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda _c, _k, text, *_: sent.append(text))
    return sent


class TestApiKey:
    async def test_key_stands_for_its_project(self, authenticator, sessions, customer):
        key, header = await key_of(sessions, customer)
        caller = await authenticator.caller(header)
        assert (caller.organization_id, caller.project_id) == (customer.organization_id, customer.project_id)
        assert (caller.api_key_id, caller.user_id) == (key.id, None)

    async def test_scheme_is_not_case_sensitive(self, authenticator, sessions, customer):
        _, header = await key_of(sessions, customer)
        assert await authenticator.caller(header.replace(b"Bearer", b"bEARER ")) is not None

    async def test_second_use_asks_no_database(self, authenticator, sessions, customer, statements):
        _, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        statements.clear()
        await authenticator.caller(header)
        assert statements == []

    async def test_two_hundred_at_once_ask_once(self, authenticator, sessions, customer, statements):
        _, header = await key_of(sessions, customer)
        statements.clear()
        callers = await asyncio.gather(*(authenticator.caller(header) for _ in range(200)))
        assert len(set(callers)) == 1
        assert len(statements) == 1

    async def test_one_callers_leaving_does_not_fail_the_others(self, authenticator, sessions, customer):
        _, header = await key_of(sessions, customer)
        first, second = (asyncio.create_task(authenticator.caller(header)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).organization_id == customer.organization_id
        with pytest.raises(asyncio.CancelledError):
            await first

    async def test_revoked_key_is_refused(self, authenticator, sessions, customer):
        key, header = await key_of(sessions, customer)
        async with session_scope(sessions) as session:
            await revoke_api_key(session, api_key_id=key.id)
        with pytest.raises(NotAuthenticated, match="revoked"):
            await authenticator.caller(header)

    async def test_revocation_is_honoured_at_once_after_forget(self, authenticator, sessions, customer):
        key, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        async with session_scope(sessions) as session:
            await revoke_api_key(session, api_key_id=key.id)
        authenticator.forget(key.id)
        with pytest.raises(NotAuthenticated):
            await authenticator.caller(header)

    async def test_revocation_by_another_process_is_honoured_after_the_ttl(self, sessions, tokens, customer):
        hand = Hand()
        authenticator = Authenticator(sessions, tokens, ttl_s=10, monotonic=hand)
        key, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        async with session_scope(sessions) as session:
            await revoke_api_key(session, api_key_id=key.id)
        hand.at += 9.9
        await authenticator.caller(header)
        hand.at += 0.1
        with pytest.raises(NotAuthenticated):
            await authenticator.caller(header)

    async def test_look_up_that_began_before_a_revocation_is_not_kept(
        self, authenticator, sessions, customer, engine
    ):
        """The row was read as living, the key is revoked and forgotten, and only then the answer arrives."""
        key, header = await key_of(sessions, customer)
        read, revoked = asyncio.Event(), asyncio.Event()
        real = authenticator._by_key

        async def slow(key_hash: bytes):
            found = await real(key_hash)
            read.set()
            await revoked.wait()
            return found

        authenticator._by_key = slow
        early = asyncio.create_task(authenticator.caller(header))
        await read.wait()
        async with session_scope(sessions) as session:
            await revoke_api_key(session, api_key_id=key.id)
        authenticator.forget(key.id)
        authenticator._by_key = real
        with pytest.raises(NotAuthenticated):
            await authenticator.caller(header)
        revoked.set()
        await early
        with pytest.raises(NotAuthenticated):
            await authenticator.caller(header)

    async def test_expired_key_is_refused(self, authenticator, sessions, customer):
        key, header = await key_of(sessions, customer)
        async with session_scope(sessions) as session:
            await session.execute(
                update(ApiKey).where(ApiKey.id == key.id).values(expires_at=func.clock_timestamp())
            )
        with pytest.raises(NotAuthenticated):
            await authenticator.caller(header)

    async def test_key_is_not_remembered_beyond_its_end(self, sessions, tokens, customer, statements):
        hand = Hand()
        authenticator = Authenticator(sessions, tokens, ttl_s=10_000, monotonic=hand)
        key, header = await key_of(sessions, customer)
        async with session_scope(sessions) as session:
            end = func.clock_timestamp() + timedelta(seconds=1_000)
            await session.execute(update(ApiKey).where(ApiKey.id == key.id).values(expires_at=end))
        await authenticator.caller(header)
        statements.clear()
        hand.at += 800
        await authenticator.caller(header)
        assert statements == []
        hand.at += 200
        await authenticator.caller(header)
        assert len(statements) == 1

    async def test_another_organizations_key_is_another_caller(self, authenticator, sessions, customer):
        async with session_scope(sessions) as session:
            other = await make_customer(session)
        _, header = await key_of(sessions, customer)
        _, others = await key_of(sessions, other)
        assert (await authenticator.caller(header)).organization_id == customer.organization_id
        assert (await authenticator.caller(others)).organization_id == other.organization_id


class TestAccessToken:
    async def test_token_stands_for_the_users_organization(self, authenticator, tokens, customer):
        caller = await authenticator.caller(f"Bearer {tokens.issue(customer.user.id)}".encode())
        assert (caller.organization_id, caller.project_id) == (customer.organization_id, customer.project_id)
        assert (caller.api_key_id, caller.user_id) == (None, customer.user.id)

    async def test_customers_organization_comes_first(self, authenticator, tokens, sessions):
        async with session_scope(sessions) as session:
            person = await make_customer(session, kind=OrganizationKind.PROVIDER)
            owner = await make_customer(session)
            await add_member(
                session,
                organization_id=owner.organization_id,
                user_id=person.user.id,
                role=Role.DEVELOPER,
            )
        caller = await authenticator.caller(f"Bearer {tokens.issue(person.user.id)}".encode())
        assert caller.organization_id == owner.organization_id

    async def test_viewer_may_log_in_but_not_ask_for_inference(
        self, authenticator, tokens, sessions, customer
    ):
        async with session_scope(sessions) as session:
            await session.execute(
                update(Membership).where(Membership.user_id == customer.user.id).values(role=Role.VIEWER)
            )
        header = f"Bearer {tokens.issue(customer.user.id)}".encode()
        assert (await authenticator.user(header)).user_id == customer.user.id
        with pytest.raises(Forbidden, match="developer"):
            await authenticator.caller(header)

    async def test_administrator_without_a_project_may_log_in(self, authenticator, tokens, sessions):
        async with session_scope(sessions) as session:
            platform = await platform_organization(session)
            user = await create_user(
                session, email=f"{new_id().hex}@example.com", password="correct horse", name="Admin"
            )
            await add_member(session, organization_id=platform.id, user_id=user.id, role=Role.ADMIN)
        header = f"Bearer {tokens.issue(user.id)}".encode()
        assert (await authenticator.user(header)).user_id == user.id
        with pytest.raises(Forbidden):
            await authenticator.caller(header)

    async def test_disabled_user_is_refused(self, authenticator, tokens, sessions, customer):
        header = f"Bearer {tokens.issue(customer.user.id)}".encode()
        await authenticator.user(header)
        async with session_scope(sessions) as session:
            await session.execute(
                update(User).where(User.id == customer.user.id).values(disabled_at=func.now())
            )
        authenticator.forget_user(customer.user.id)
        for ask in (authenticator.user, authenticator.caller):
            with pytest.raises(NotAuthenticated, match="disabled"):
                await ask(header)

    async def test_token_of_nobody_is_refused(self, authenticator, tokens):
        with pytest.raises(NotAuthenticated):
            await authenticator.user(f"Bearer {tokens.issue(new_id())}".encode())

    async def test_token_is_not_remembered_beyond_its_end(self, sessions, customer):
        clock, hand = FixedClock(), Hand()
        tokens = make_tokens(clock, ttl_s=900)
        header = f"Bearer {tokens.issue(customer.user.id)}".encode()
        authenticator = Authenticator(sessions, tokens, ttl_s=10_000, monotonic=hand)
        await authenticator.user(header)
        for seconds in (899, 1):
            await authenticator.user(header)
            clock.advance(seconds=seconds)
            hand.at += seconds
        with pytest.raises(NotAuthenticated, match="expired"):
            await authenticator.user(header)

    async def test_api_key_is_no_user(self, authenticator, sessions, customer):
        _, header = await key_of(sessions, customer)
        with pytest.raises(NotAuthenticated, match="log in"):
            await authenticator.user(header)


WRONG = {
    "missing": None,
    "empty": b"",
    "scheme only": b"Bearer",
    "scheme and blank": b"Bearer ",
    "blanks": b"   ",
    "no scheme": make_key().text.encode(),
    "basic": b"Basic cmF5bWFydDpyYXltYXJ0",
    "other scheme": b"Bear " + make_key().text.encode(),
    "unknown key": b"Bearer " + make_key().text.encode(),
    "short key": b"Bearer rm_live_abc",
    "key and more": b"Bearer " + make_key().text.encode() + b" x",
    "key in quotes": b'Bearer "' + make_key().text.encode() + b'"',
    "test key": b"Bearer rm_test_" + b"a" * 43,
    "openai key": b"Bearer sk-" + b"a" * 48,
    "not ascii": b"Bearer " + "schlüssel".encode(),
    "not utf-8": b"Bearer \xff\xfe",
    "nul": b"Bearer rm_live_" + b"\0" * 43,
    "long": b"Bearer " + b"a" * 100_000,
    "foreign token": b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
    "two credentials": b"Bearer a, Bearer b",
}


class TestRefusal:
    @pytest.mark.parametrize("name", WRONG)
    async def test_wrong_credential_is_refused_with_the_next_step(self, authenticator, name: str):
        for ask in (authenticator.caller, authenticator.user):
            with pytest.raises(NotAuthenticated, match=r"Bearer|log in"):
                await ask(WRONG[name])

    async def test_nothing_is_written_for_wrong_and_revoked_credentials(
        self, authenticator, sessions, customer, tokens, database_url
    ):
        """Counted by rows, and by transaction ids: the database gives one to each transaction that writes."""
        key, revoked = await key_of(sessions, customer)
        async with session_scope(sessions) as session:
            await revoke_api_key(session, api_key_id=key.id)
        headers = [*WRONG.values(), revoked, f"Bearer {tokens.issue(new_id())}".encode()]
        spent = []
        # Autovacuum may take an id of its own now and then, but not three times.
        for _ in range(3):
            before = _writes(database_url)
            for header in headers:
                with pytest.raises(NotAuthenticated):
                    await authenticator.caller(header)
            spent.append(_writes(database_url) != before)
            if not spent[-1]:
                break
        assert not all(spent)

    async def test_nothing_is_written_for_a_good_key(self, authenticator, sessions, customer, database_url):
        spent = []
        for _ in range(3):
            _, header = await key_of(sessions, customer)
            before = _writes(database_url)
            await authenticator.caller(header)
            spent.append(_writes(database_url) != before)
        assert not all(spent)

    async def test_wrong_key_asks_once_a_second(self, authenticator, statements):
        header = b"Bearer " + make_key().text.encode()
        for _ in range(50):
            with pytest.raises(NotAuthenticated):
                await authenticator.caller(header)
        assert len(statements) == 1

    async def test_malformed_credential_asks_nothing(self, authenticator, statements):
        for header in (b"Bearer rm_live_abc", b"Bearer a.b.c", b"Basic abc", None):
            with pytest.raises(NotAuthenticated):
                await authenticator.caller(header)
        assert statements == []

    async def test_flood_of_wrong_keys_does_not_push_out_good_ones(
        self, sessions, tokens, customer, statements
    ):
        authenticator = Authenticator(sessions, tokens, size_max=4)
        _, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        for _ in range(20):
            with pytest.raises(NotAuthenticated):
                await authenticator.caller(b"Bearer " + make_key().text.encode())
        statements.clear()
        await authenticator.caller(header)
        assert statements == []

    async def test_memory_is_bounded(self, sessions, tokens, customer):
        authenticator = Authenticator(sessions, tokens, size_max=3)
        for _ in range(6):
            _, header = await key_of(sessions, customer)
            await authenticator.caller(header)
            with pytest.raises(NotAuthenticated):
                await authenticator.caller(b"Bearer " + make_key().text.encode())
        assert len(authenticator._known) == 3
        assert len(authenticator._refused) == 3
        assert authenticator._looking_up == {}

    async def test_unreachable_database_is_a_503_and_not_a_401(self, tokens):
        """A client that is told 401 throws its key away."""
        engine = make_engine("postgresql://raymart:x@127.0.0.1:1/raymart")
        authenticator = Authenticator(make_sessions(engine), tokens)
        for credential in (make_key().text, tokens.issue(new_id())):
            with pytest.raises(Unavailable, match="try again"):
                await authenticator.caller(f"Bearer {credential}".encode())
        assert authenticator._looking_up == {}
        await engine.dispose()


class Outage:
    """Sessions on the database, or on a port where nobody listens while `is_on`."""

    def __init__(self, sessions: Sessions, away: Sessions) -> None:
        self.is_on = False
        self._sessions, self._away = sessions, away

    def __call__(self):
        return (self._away if self.is_on else self._sessions)()


@pytest.fixture
async def outage(sessions: Sessions):
    engine = make_engine("postgresql://raymart:x@127.0.0.1:1/raymart")
    yield Outage(sessions, make_sessions(engine))
    await engine.dispose()


class TestOutage:
    """A gateway admits and records through a restart of the database, so it must know its customers meanwhile."""

    @pytest.fixture
    def hand(self) -> Hand:
        return Hand()

    @pytest.fixture
    def authenticator(self, outage, tokens, hand) -> Authenticator:
        return Authenticator(outage, tokens, ttl_s=10, outage_grace_s=30, monotonic=hand)

    @pytest.fixture
    async def headers(self, sessions, customer, tokens) -> list[bytes]:
        """Of a key and of a token."""
        _, header = await key_of(sessions, customer)
        return [header, f"Bearer {tokens.issue(customer.user.id)}".encode()]

    async def test_known_credential_is_believed_until_its_grace_is_over(
        self, authenticator, outage, hand, headers
    ):
        callers = [await authenticator.caller(header) for header in headers]
        outage.is_on = True
        for after_s in (10, 20, 9.9):
            hand.at += after_s
            assert [await authenticator.caller(header) for header in headers] == callers
        hand.at += 0.1
        for header in headers:
            with pytest.raises(Unavailable):
                await authenticator.caller(header)

    async def test_first_to_notice_the_outage_waits_and_nobody_after(
        self, authenticator, outage, hand, sessions, customer
    ):
        """A server that accepts and says nothing holds a look-up for seconds."""
        _, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        hand.at, outage.is_on = hand.at + 10, True
        await authenticator.caller(header)
        silent = asyncio.Event()
        real = authenticator._by_key

        async def hanging(key_hash: bytes):
            await silent.wait()
            return await real(key_hash)

        authenticator._by_key = hanging
        async with asyncio.timeout(30):
            for _ in range(100):
                await authenticator.caller(header)
        assert len(authenticator._looking_up) == 1
        silent.set()
        await asyncio.gather(*authenticator._looking_up.values(), return_exceptions=True)

    async def test_revocation_counts_as_soon_as_the_database_is_back(
        self, authenticator, outage, hand, sessions, customer
    ):
        key, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        hand.at, outage.is_on = hand.at + 10, True
        await authenticator.caller(header)
        async with session_scope(sessions) as session:
            await revoke_api_key(session, api_key_id=key.id)
        outage.is_on = False
        await authenticator.caller(header)  # Answered from memory, and looked up beside.
        await asyncio.gather(*authenticator._looking_up.values(), return_exceptions=True)
        outage.is_on = True
        hand.at += 2  # The refusal is forgotten; what was known before it must be too.
        with pytest.raises(Unavailable):
            await authenticator.caller(header)

    async def test_revocation_here_counts_at_once(self, authenticator, outage, hand, sessions, customer):
        key, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        hand.at, outage.is_on = hand.at + 10, True
        await authenticator.caller(header)
        authenticator.forget(key.id)
        with pytest.raises(Unavailable):
            await authenticator.caller(header)

    async def test_revocation_here_counts_for_who_waits_for_a_look_up_that_fails(
        self, authenticator, hand, sessions, customer
    ):
        key, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        hand.at += 10
        asked, revoked = asyncio.Event(), asyncio.Event()

        async def unanswered(_key_hash: bytes):
            asked.set()
            await revoked.wait()
            raise Unavailable("away")

        authenticator._by_key = unanswered
        waiting = asyncio.create_task(authenticator.caller(header))
        await asked.wait()
        authenticator.forget(key.id)
        revoked.set()
        with pytest.raises(Unavailable):
            await waiting

    async def test_key_is_not_believed_beyond_its_end(self, authenticator, outage, hand, sessions, customer):
        key, header = await key_of(sessions, customer)
        async with session_scope(sessions) as session:
            end = func.clock_timestamp() + timedelta(seconds=15)
            await session.execute(update(ApiKey).where(ApiKey.id == key.id).values(expires_at=end))
        await authenticator.caller(header)
        outage.is_on = True
        hand.at += 12
        await authenticator.caller(header)
        hand.at += 3
        with pytest.raises(Unavailable):
            await authenticator.caller(header)

    async def test_unknown_credential_is_a_503(self, authenticator, outage):
        outage.is_on = True
        with pytest.raises(Unavailable):
            await authenticator.caller(f"Bearer {make_key().text}".encode())

    async def test_outage_is_two_lines_of_the_log(self, authenticator, outage, hand, sessions, customer):
        """One for each request filled the disk, and a pipe that nobody read until the process stood still."""
        _, header = await key_of(sessions, customer)
        await authenticator.caller(header)
        with structlog.testing.capture_logs() as events:
            hand.at, outage.is_on = hand.at + 10, True
            for _ in range(20):
                await authenticator.caller(header)
                with pytest.raises(Unavailable):
                    await authenticator.caller(f"Bearer {make_key().text}".encode())
            outage.is_on = False
            await authenticator.caller(header)
            await asyncio.gather(*authenticator._looking_up.values())
        assert [event["event"] for event in events] == [
            "authenticator.database_away",
            "authenticator.database_back",
        ]


def _writes(url: str) -> tuple[object, ...]:
    """The next transaction id and the rows of each table of identity."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            """
            select pg_snapshot_xmax(pg_current_snapshot())::text, (select count(*) from api_key),
                   (select count(*) from "user"), (select count(*) from request), (select count(*) from usage_record)
            """
        ).fetchone()
    assert row is not None
    return row
