"""Authenticator apps on a real database: used once, in their window, sealed at rest."""

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from raymart_core.errors import Conflict, InvalidRequest, NotAuthenticated
from raymart_core.ids import new_id
from raymart_marketplace.accounts import second_factor, totp
from raymart_marketplace.accounts.login_challenges import LoginChallenges
from raymart_marketplace.accounts.models import User
from raymart_marketplace.accounts.sealing import SecretBox
from raymart_marketplace.accounts.second_factor import SecondFactors
from raymart_marketplace.accounts.second_factor_models import RecoveryCode, TotpCredential
from raymart_marketplace.accounts.session_models import LoginMethod
from raymart_marketplace.db.session import Sessions, session_scope
from support.fixed_clock import FixedClock
from support.market import make_customer

KEY = b"k" * 32


class Person:
    """Somebody with an authenticator app, on a clock that stands still."""

    def __init__(self, sessions: Sessions, user: User) -> None:
        self.sessions = sessions
        self.user = user
        self.clock = FixedClock(datetime(2026, 11, 20, 12, 0, 5, tzinfo=UTC))
        self.factors = SecondFactors(box=SecretBox([KEY]), issuer="Raymart", clock=self.clock)

    async def begin(self) -> bytes:
        async with session_scope(self.sessions) as session:
            await self.factors.begin(session, user=self.user)
        return await self.secret()

    async def enrol(self) -> list[str]:
        """With the code of the step before, so that the present one is left; returns the recovery codes."""
        await self.begin()
        return await self.confirm(await self.code(-1))

    async def confirm(self, code: str) -> list[str]:
        async with session_scope(self.sessions) as session:
            return list(await self.factors.confirm(session, user_id=self.user.id, code=code))

    async def prove(self, code: str) -> None:
        async with session_scope(self.sessions) as session:
            await self.factors.prove(session, user_id=self.user.id, code=code)

    async def credential(self) -> TotpCredential:
        async with session_scope(self.sessions) as session:
            return await session.get_one(TotpCredential, self.user.id)

    async def secret(self) -> bytes:
        sealed = (await self.credential()).secret_sealed
        return SecretBox([KEY]).open(sealed, purpose=f"totp {self.user.id.hex}")

    async def code(self, off: int = 0) -> str:
        return totp.code_of(await self.secret(), totp.step_at(self.clock.now()) + off)


@pytest.fixture
async def person(sessions: Sessions) -> Person:
    async with session_scope(sessions) as session:
        customer = await make_customer(session)
    return Person(sessions, customer.user)


class TestEnrolment:
    async def test_app_counts_only_once_it_has_shown_a_code(self, person: Person):
        await person.begin()
        async with session_scope(person.sessions) as session:
            assert await second_factor.enrolled(session, person.user.id) is None
        with pytest.raises(NotAuthenticated):
            await person.prove(await person.code())
        codes = await person.confirm(await person.code())
        assert len(set(codes)) == second_factor.RECOVERY_CODES
        async with session_scope(person.sessions) as session:
            assert await second_factor.enrolled(session, person.user.id) is not None

    async def test_wrong_code_confirms_nothing(self, person: Person):
        await person.begin()
        with pytest.raises(NotAuthenticated):
            await person.confirm(await person.code(5))
        assert (await person.credential()).confirmed_at is None

    async def test_begun_again_the_first_secret_is_gone(self, person: Person):
        first, second = await person.begin(), await person.begin()
        assert first != second

    async def test_enrolled_app_cannot_be_replaced_by_beginning_again(self, person: Person):
        await person.enrol()
        with pytest.raises(Conflict, match="disableTotp"):
            await person.begin()
        with pytest.raises(Conflict, match="beginTotpEnrolment"):
            await person.confirm(await person.code())

    async def test_secret_and_codes_stand_in_no_row(self, person: Person):
        codes = await person.enrol()
        secret = await person.secret()
        assert secret not in (await person.credential()).secret_sealed
        async with session_scope(person.sessions) as session:
            kept = await session.scalars(
                select(RecoveryCode.code_hash).where(RecoveryCode.user_id == person.user.id)
            )
            hashes = kept.all()
        assert len(hashes) == len(codes)
        assert not any(code.replace("-", "").encode() in kept for code in codes for kept in hashes)

    async def test_sealed_secret_of_another_person_opens_nothing(self, person: Person):
        """Who can write rows cannot put their own app in somebody's place."""
        await person.enrol()
        async with session_scope(person.sessions) as session:
            stranger = Person(person.sessions, (await make_customer(session)).user)
        await stranger.enrol()
        sealed = (await stranger.credential()).secret_sealed
        async with session_scope(person.sessions) as session:
            (await session.get_one(TotpCredential, person.user.id)).secret_sealed = sealed
        with pytest.raises(ValueError, match="not sealed by us for this"):
            await person.prove(await stranger.code())


class TestProve:
    async def test_code_is_good_once_and_no_older_one_after_it(self, person: Person):
        await person.enrol()
        before, present = await person.code(-1), await person.code()
        await person.prove(present)
        for code in (present, before):
            with pytest.raises(NotAuthenticated, match="used before"):
                await person.prove(code)
        await person.prove(await person.code(1))

    async def test_code_that_confirmed_is_used(self, person: Person):
        await person.begin()
        code = await person.code()
        await person.confirm(code)
        with pytest.raises(NotAuthenticated):
            await person.prove(code)

    async def test_of_ten_at_once_with_one_code_one_gets_in(self, person: Person):
        await person.enrol()
        code = await person.code()
        outcomes = await asyncio.gather(*(person.prove(code) for _ in range(10)), return_exceptions=True)
        assert sum(each is None for each in outcomes) == 1

    @pytest.mark.parametrize("off", [-3, -2, 2, 3])
    async def test_code_outside_the_window_is_refused(self, person: Person, off: int):
        await person.enrol()
        with pytest.raises(NotAuthenticated):
            await person.prove(await person.code(off))

    async def test_people_may_type_blanks(self, person: Person):
        await person.enrol()
        code = await person.code()
        await person.prove(f" {code[:3]} {code[3:]} ")

    async def test_recovery_code_is_good_once_however_it_is_typed(self, person: Person):
        first, second, *_ = await person.enrol()
        await person.prove(first.lower())
        await person.prove(second.replace("-", " "))
        for code in (first, second):
            with pytest.raises(NotAuthenticated):
                await person.prove(code)

    async def test_of_ten_at_once_with_one_recovery_code_one_gets_in(self, person: Person):
        [code, *_] = await person.enrol()
        outcomes = await asyncio.gather(*(person.prove(code) for _ in range(10)), return_exceptions=True)
        assert sum(each is None for each in outcomes) == 1

    @pytest.mark.parametrize(
        "code", ["", "000000", "abcd", "A" * 16, "\0", "\ud800", "1" * 100_000, "\u0661" * 6]
    )
    async def test_what_is_no_code_is_refused(self, person: Person, code: str):
        await person.enrol()
        if code != await person.code():
            with pytest.raises(NotAuthenticated):
                await person.prove(code)

    async def test_another_persons_codes_are_refused(self, person: Person):
        codes = await person.enrol()
        async with session_scope(person.sessions) as session:
            stranger = Person(person.sessions, (await make_customer(session)).user)
        with pytest.raises(NotAuthenticated):
            await stranger.prove(codes[0])
        await stranger.enrol()
        with pytest.raises(NotAuthenticated):
            await stranger.prove(codes[0])

    async def test_replaced_key_seals_anew_at_the_next_use(self, person: Person):
        await person.enrol()
        code = await person.code()
        person.factors = SecondFactors(box=SecretBox([b"n" * 32, KEY]), issuer="Raymart", clock=person.clock)
        await person.prove(code)
        sealed = (await person.credential()).secret_sealed
        assert SecretBox([b"n" * 32]).open(sealed, purpose=f"totp {person.user.id.hex}")


class TestRemove:
    async def test_nothing_is_left(self, person: Person):
        codes = await person.enrol()
        async with session_scope(person.sessions) as session:
            assert await second_factor.remove(session, user_id=person.user.id)
            assert not await second_factor.remove(session, user_id=person.user.id)
            left = select(func.count()).where(RecoveryCode.user_id == person.user.id)
            assert await session.scalar(left) == 0
        with pytest.raises(NotAuthenticated):
            await person.prove(codes[0])


class TestFreshLogin:
    async def test_token_without_a_session_is_refused(self, sessions: Sessions):
        for session_id in (None, new_id()):
            async with session_scope(sessions) as session:
                with pytest.raises(InvalidRequest, match="no session"):
                    await second_factor.require_fresh_login(session, session_id=session_id, fresh_s=900)


class TestLoginChallenges:
    async def test_challenge_names_its_person_until_it_ends_or_the_password_changes(self, person: Person):
        challenges = LoginChallenges(box=SecretBox([KEY]), clock=person.clock)
        made = challenges.make(person.user, LoginMethod.WALLET)
        async with session_scope(person.sessions) as session:
            user, method = await challenges.read(session, made.text)
            assert (user.id, method) == (person.user.id, LoginMethod.WALLET)
            user.password_hash = "another"
        async with session_scope(person.sessions) as session:
            with pytest.raises(NotAuthenticated, match="log in again"):
                await challenges.read(session, made.text)
            changed = await session.get_one(User, person.user.id)
            anew = challenges.make(changed, LoginMethod.PASSWORD)
            await challenges.read(session, anew.text)
            person.clock.advance(seconds=301)
            with pytest.raises(NotAuthenticated):
                await challenges.read(session, anew.text)

    @pytest.mark.parametrize("text", ["", "rmc_", "rmc_" + "a" * 100, "\ud800", "\0", "rmr_" + "a" * 43])
    async def test_invented_challenge_is_refused(self, person: Person, text: str):
        challenges = LoginChallenges(box=SecretBox([KEY]), clock=person.clock)
        async with session_scope(person.sessions) as session:
            with pytest.raises(NotAuthenticated):
                await challenges.read(session, text)
