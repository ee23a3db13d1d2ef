"""`raymart user`: what an operator does for, or about, a person."""

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from raymart_core.errors import NotAuthenticated
from raymart_local.redis import EmbeddedRedis
from raymart_marketplace.accounts import second_factor, totp
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.refresh_tokens import RefreshTokens
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.accounts.second_factor import SecondFactors
from raymart_marketplace.accounts.second_factor_models import TotpCredential
from raymart_marketplace.accounts.session_models import LoginMethod, SessionEnd, UserSession
from raymart_marketplace.accounts.sessions import Device, SessionPolicy, open_session
from raymart_marketplace.db.session import Sessions, session_scope
from support.command_line import failed, run, run_process
from support.fixed_clock import FixedClock
from support.market import make_customer

POLICY = SessionPolicy(tokens=RefreshTokens(b"s" * 32), idle_ttl_s=100, ttl_s=100)


class Operator:
    """Somebody at the command line, and the person whom it is about."""

    def __init__(self, database_url: str, redis_url: str, sessions: Sessions, user: User) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.sessions = sessions
        self.user = user

    def __call__(self, command: str, *, email: str | None = None) -> list[dict[str, object]]:
        done = run(
            self.database_url,
            "user",
            command,
            "--email",
            email or self.user.email,
            "-o",
            "json",
            REDIS_URL=self.redis_url,
        )
        assert done.returncode == 0, done
        rows: list[dict[str, object]] = json.loads(done.stdout)
        return rows

    async def log_in(self) -> None:
        async with session_scope(self.sessions) as session:
            await open_session(
                session,
                POLICY,
                user=self.user,
                method=LoginMethod.PASSWORD,
                device=Device(user_agent="a browser", address="192.0.2.1"),
            )

    async def ends(self) -> list[SessionEnd | None]:
        async with session_scope(self.sessions) as session:
            found = await session.scalars(
                select(UserSession.revoked_why).where(UserSession.user_id == self.user.id)
            )
            return list(found)

    async def now(self) -> User:
        async with session_scope(self.sessions) as session:
            return await session.get_one(User, self.user.id)


@pytest.fixture
async def operator(database_url: str, redis_server: EmbeddedRedis, sessions: Sessions) -> Operator:
    async with session_scope(sessions) as session:
        customer = await make_customer(session)
    return Operator(database_url, redis_server.url, sessions, customer.user)


class TestUser:
    async def test_sessions_are_listed_and_ended(self, operator: Operator):
        for _ in range(2):
            await operator.log_in()
        listed = operator("sessions")
        assert [(row["method"], row["address"], row["user_agent"]) for row in listed] == [
            ("password", "192.0.2.1", "a browser")
        ] * 2
        assert str(listed[0]["id"]).startswith("sess_")
        assert operator("revoke-sessions") == [
            {"email": operator.user.email, "change": "sessions revoked", "sessions_ended": 2}
        ]
        assert operator("sessions") == []
        assert await operator.ends() == [SessionEnd.OPERATOR] * 2

    async def test_disabled_person_is_out_until_enabled(self, operator: Operator):
        await operator.log_in()
        assert operator("disable")[0]["sessions_ended"] == 1
        first = (await operator.now()).disabled_at
        assert first is not None
        operator("disable")
        assert (await operator.now()).disabled_at == first, "a repeat changes nothing"
        operator("enable")
        assert (await operator.now()).disabled_at is None

    async def test_lost_app_is_taken_away(self, operator: Operator):
        clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
        box = SecretBox([b"k" * 32])
        factors = SecondFactors(box=box, issuer="Raymart", clock=clock)
        user_id = operator.user.id
        async with session_scope(operator.sessions) as session:
            await factors.begin(session, user=operator.user)
            sealed = (await session.get_one(TotpCredential, user_id)).secret_sealed
            secret = box.open(sealed, purpose=f"totp {user_id.hex}")
            code = totp.code_of(secret, totp.step_at(clock.now()))
            codes = await factors.confirm(session, user_id=user_id, code=code)
        assert operator("reset-totp")[0]["change"] == "second factor removed"
        async with session_scope(operator.sessions) as session:
            assert await second_factor.enrolled(session, user_id) is None
            with pytest.raises(NotAuthenticated):
                await factors.prove(session, user_id=user_id, code=codes[0])
        again = run(operator.database_url, "user", "reset-totp", "--email", operator.user.email)
        assert "has no authenticator app" in failed(again)

    @pytest.mark.parametrize("command", ["sessions", "revoke-sessions", "disable", "enable", "reset-totp"])
    def test_unknown_person_is_refused(self, database_url: str, command: str):
        done = run(database_url, "user", command, "--email", "nobody@example.com")
        assert "no user has the address" in failed(done)

    async def test_work_is_done_without_redis(self, operator: Operator):
        """As a process, whose logs go to another stream than what programs read."""
        await operator.log_in()
        done = run_process(
            operator.database_url,
            *("user", "revoke-sessions", "--email", operator.user.email, "-o", "json"),
            REDIS_URL="redis://127.0.0.1:1/0",
        )
        assert json.loads(done.stdout)[0]["sessions_ended"] == 1
        assert "forgetting.untold" in done.stderr
