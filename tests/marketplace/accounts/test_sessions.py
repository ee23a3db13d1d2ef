"""Sessions on a real database: rotation, reuse, races, ends."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update

from raymart_core.errors import NotFound
from raymart_marketplace.accounts import sessions as service
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.refresh_tokens import RefreshTokens, hash_refresh_token
from raymart_marketplace.accounts.session_models import LoginMethod, RefreshToken, SessionEnd, UserSession
from raymart_marketplace.accounts.sessions import Device, OpenSession, Refused, SessionPolicy
from raymart_marketplace.db.session import Sessions, session_scope
from support.market import make_customer

POLICY = SessionPolicy(tokens=RefreshTokens(b"s" * 32), idle_ttl_s=1_000, ttl_s=3_000)
DEVICE = Device(user_agent="a browser", address="192.0.2.1")


class Person:
    """Somebody with an account, and shorthand for their sessions."""

    def __init__(self, sessions: Sessions, user: User) -> None:
        self.sessions = sessions
        self.user = user

    async def log_in(self) -> OpenSession:
        async with session_scope(self.sessions) as session:
            return await service.open_session(
                session, POLICY, user=self.user, method=LoginMethod.PASSWORD, device=DEVICE
            )

    async def refresh(self, token: str) -> OpenSession | Refused:
        async with session_scope(self.sessions) as session:
            return await service.refresh_session(session, POLICY, refresh_token=token, address="192.0.2.2")

    async def next_token(self, token: str) -> str:
        refreshed = await self.refresh(token)
        assert isinstance(refreshed, OpenSession)
        return refreshed.refresh_token

    async def row(self, session_id: UUID) -> UserSession:
        async with session_scope(self.sessions) as session:
            return await session.get_one(UserSession, session_id)

    async def tokens(self, session_id: UUID) -> int:
        async with session_scope(self.sessions) as session:
            counted = await session.scalar(
                select(func.count()).select_from(RefreshToken).where(RefreshToken.session_id == session_id)
            )
        assert counted is not None
        return counted

    async def age(self, token: str, *, seconds: float) -> None:
        """Let the token's use, its end and its session's have been `seconds` earlier."""
        earlier = text("make_interval(secs => :seconds)").bindparams(seconds=seconds)
        async with session_scope(self.sessions) as session:
            row = await session.get_one(RefreshToken, hash_refresh_token(token))
            await session.execute(
                update(RefreshToken)
                .where(RefreshToken.session_id == row.session_id)
                .values(used_at=RefreshToken.used_at - earlier, expires_at=RefreshToken.expires_at - earlier)
            )


@pytest.fixture
async def person(sessions: Sessions) -> Person:
    async with session_scope(sessions) as session:
        customer = await make_customer(session)
    return Person(sessions, customer.user)


class TestOpenSession:
    async def test_session_says_where_and_how_and_until_when(self, person: Person):
        opened = await person.log_in()
        row = await person.row(opened.session.id)
        assert (row.user_agent, row.address, row.method) == ("a browser", "192.0.2.1", LoginMethod.PASSWORD)
        assert row.second_factor_at is row.revoked_at is None
        assert (row.expires_at - row.last_used_at).total_seconds() == 3_000
        assert (opened.refresh_expires_at - row.last_used_at).total_seconds() == 1_000

    async def test_only_the_hash_is_kept(self, person: Person):
        opened = await person.log_in()
        async with session_scope(person.sessions) as session:
            kept = await session.scalar(
                select(RefreshToken).where(RefreshToken.session_id == opened.session.id)
            )
        assert kept is not None
        assert kept.token_hash == hash_refresh_token(opened.refresh_token)
        assert opened.refresh_token.encode() not in kept.token_hash

    async def test_user_agent_is_cut(self, person: Person):
        async with session_scope(person.sessions) as session:
            opened = await service.open_session(
                session,
                POLICY,
                user=person.user,
                method=LoginMethod.PASSWORD,
                device=Device(user_agent="x" * 5_000, address="192.0.2.1"),
            )
        assert len((await person.row(opened.session.id)).user_agent) == 200


class TestRefresh:
    async def test_successor_continues_the_same_session(self, person: Person):
        opened = await person.log_in()
        refreshed = await person.refresh(opened.refresh_token)
        assert isinstance(refreshed, OpenSession)
        assert refreshed.session.id == opened.session.id
        assert refreshed.user.id == person.user.id
        assert refreshed.refresh_token != opened.refresh_token
        row = await person.row(opened.session.id)
        assert row.address == "192.0.2.2"
        assert row.last_used_at > opened.session.last_used_at
        assert row.expires_at == opened.session.expires_at, "however busy"

    async def test_lost_answer_is_given_again_and_nothing_is_added(self, person: Person):
        opened = await person.log_in()
        first, again = [await person.refresh(opened.refresh_token) for _ in range(2)]
        assert isinstance(first, OpenSession)
        assert isinstance(again, OpenSession)
        assert (again.refresh_token, again.refresh_expires_at) == (
            first.refresh_token,
            first.refresh_expires_at,
        )
        assert await person.tokens(opened.session.id) == 2

    async def test_ten_at_once_with_one_token_get_one_successor(self, person: Person):
        for _ in range(3):
            opened = await person.log_in()
            outcomes = await asyncio.gather(*(person.refresh(opened.refresh_token) for _ in range(10)))
            assert len({each.refresh_token for each in outcomes if isinstance(each, OpenSession)}) == 1
            assert not any(isinstance(each, Refused) for each in outcomes)
            assert await person.tokens(opened.session.id) == 2

    async def test_used_token_ends_the_family_once_its_successor_was_used(self, person: Person):
        """Who has used the successor has had the answer: another use of the old token is a copy's."""
        opened = await person.log_in()
        second = await person.next_token(opened.refresh_token)
        third = await person.next_token(second)
        outcome = await person.refresh(opened.refresh_token)
        assert isinstance(outcome, Refused)
        assert outcome.revoked is not None
        row = await person.row(opened.session.id)
        assert row.revoked_why is SessionEnd.REUSE
        assert await person.refresh(third) == Refused(), "the thief's and the owner's tokens end alike"

    async def test_used_token_ends_the_family_after_the_grace(self, person: Person):
        opened = await person.log_in()
        second = await person.next_token(opened.refresh_token)
        await person.age(opened.refresh_token, seconds=service.GRACE_S + 1)
        outcome = await person.refresh(opened.refresh_token)
        assert isinstance(outcome, Refused)
        assert outcome.revoked is not None
        assert await person.refresh(second) == Refused()

    async def test_used_token_of_a_former_secret_ends_the_family(self, person: Person):
        opened = await person.log_in()
        await person.next_token(opened.refresh_token)
        other = SessionPolicy(tokens=RefreshTokens(b"t" * 32), idle_ttl_s=1_000, ttl_s=3_000)
        async with session_scope(person.sessions) as session:
            outcome = await service.refresh_session(
                session, other, refresh_token=opened.refresh_token, address=""
            )
        assert isinstance(outcome, Refused)
        assert outcome.revoked is not None

    async def test_idle_session_is_over(self, person: Person):
        opened = await person.log_in()
        await person.age(opened.refresh_token, seconds=1_001)
        assert await person.refresh(opened.refresh_token) == Refused()
        assert (await person.row(opened.session.id)).revoked_at is None, "it has ended by itself"

    async def test_token_never_outlives_the_session(self, person: Person):
        opened = await person.log_in()
        async with session_scope(person.sessions) as session:
            await session.execute(
                update(UserSession)
                .where(UserSession.id == opened.session.id)
                .values(expires_at=func.clock_timestamp() + text("interval '30 seconds'"))
            )
        refreshed = await person.refresh(opened.refresh_token)
        assert isinstance(refreshed, OpenSession)
        assert refreshed.refresh_expires_at == refreshed.session.expires_at

    async def test_expired_session_is_over(self, person: Person):
        opened = await person.log_in()
        async with session_scope(person.sessions) as session:
            await session.execute(
                update(UserSession)
                .where(UserSession.id == opened.session.id)
                .values(expires_at=func.clock_timestamp())
            )
        assert await person.refresh(opened.refresh_token) == Refused()

    async def test_disabled_user_gets_nothing(self, person: Person):
        opened = await person.log_in()
        async with session_scope(person.sessions) as session:
            await session.execute(
                update(User).where(User.id == person.user.id).values(disabled_at=func.clock_timestamp())
            )
        assert await person.refresh(opened.refresh_token) == Refused()

    @pytest.mark.parametrize("token", ["", "rmr_" + "a" * 43, "no token", "\0", "\ud800"])
    async def test_unknown_token_is_refused(self, person: Person, token: str):
        assert await person.refresh(token) == Refused()


class TestRevoke:
    async def test_revoked_session_refreshes_no_more(self, person: Person):
        opened, other = await person.log_in(), await person.log_in()
        async with session_scope(person.sessions) as session:
            row = await service.revoke_session(
                session, user_id=person.user.id, session_id=opened.session.id, why=SessionEnd.LOGOUT
            )
        assert row.revoked_at is not None
        assert await person.refresh(opened.refresh_token) == Refused()
        assert isinstance(await person.refresh(other.refresh_token), OpenSession)

    async def test_refresh_and_revocation_at_once_leave_nothing_that_works(self, person: Person):
        for _ in range(5):
            opened = await person.log_in()

            async def revoke(session_id: UUID = opened.session.id) -> None:
                async with session_scope(person.sessions) as session:
                    await service.revoke_session(
                        session, user_id=person.user.id, session_id=session_id, why=SessionEnd.REVOKED
                    )

            outcome, _ = await asyncio.gather(person.refresh(opened.refresh_token), revoke())
            if isinstance(outcome, OpenSession):
                assert await person.refresh(outcome.refresh_token) == Refused()

    async def test_repeat_keeps_the_first_reason(self, person: Person):
        opened = await person.log_in()
        for why in (SessionEnd.LOGOUT, SessionEnd.OPERATOR):
            async with session_scope(person.sessions) as session:
                row = await service.revoke_session(
                    session, user_id=person.user.id, session_id=opened.session.id, why=why
                )
        assert row.revoked_why is SessionEnd.LOGOUT

    async def test_anothers_session_is_not_found(self, person: Person, sessions: Sessions):
        opened = await person.log_in()
        async with session_scope(sessions) as session:
            stranger = await make_customer(session)
        with pytest.raises(NotFound):
            async with session_scope(sessions) as session:
                await service.revoke_session(
                    session, user_id=stranger.user.id, session_id=opened.session.id, why=SessionEnd.REVOKED
                )
        assert (await person.row(opened.session.id)).revoked_at is None

    async def test_all_but_one_end(self, person: Person):
        kept, *others = [await person.log_in() for _ in range(4)]
        async with session_scope(person.sessions) as session:
            ended = await service.revoke_sessions(
                session, user_id=person.user.id, why=SessionEnd.REVOKED, but=kept.session.id
            )
        assert set(ended) == {each.session.id for each in others}
        async with session_scope(person.sessions) as session:
            [left] = await service.open_sessions_of(session, person.user.id)
        assert left.id == kept.session.id
