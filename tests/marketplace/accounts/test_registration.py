"""Mail tokens and passwords on a real database: used once, expiring, void after the facts have changed."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest
from raymart_marketplace.accounts import registration
from raymart_marketplace.accounts.account_mail import Mailing, MailTokens, hash_mail_token, user_of_token
from raymart_marketplace.accounts.mail_models import AccountMail, MailKind
from raymart_marketplace.accounts.models import OrganizationKind, Role, User
from raymart_marketplace.accounts.refresh_tokens import RefreshTokens
from raymart_marketplace.accounts.service import memberships, user_by_email
from raymart_marketplace.accounts.session_models import LoginMethod
from raymart_marketplace.accounts.sessions import Device, SessionPolicy, open_session, open_sessions_of
from raymart_marketplace.db.session import Sessions, session_scope
from support.market import make_customer, unique

TOKENS = MailTokens(b"s" * 32)


class Outbox:
    """Mails that were asked for, in their order."""

    def __init__(self) -> None:
        self.asked: list[UUID] = []
        self.mailing = Mailing(tokens=TOKENS, send_later=self.send_later)

    async def send_later(self, _session: AsyncSession, mail_id: UUID) -> None:
        self.asked.append(mail_id)

    @property
    def last(self) -> str:
        return TOKENS.token(self.asked[-1])


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


async def register(sessions: Sessions, outbox: Outbox, email: str, *, name: str = "A person") -> None:
    async with session_scope(sessions) as session:
        await registration.register(
            session,
            outbox.mailing,
            email=email,
            password_hash="hash",
            name=name,
            organization_name="An organization",
            kind=OrganizationKind.PROVIDER,
        )


async def kinds(sessions: Sessions, outbox: Outbox) -> list[MailKind]:
    async with session_scope(sessions) as session:
        found = {
            mail.id: mail.kind
            for mail in await session.scalars(select(AccountMail).where(AccountMail.id.in_(outbox.asked)))
        }
    return [found[mail_id] for mail_id in outbox.asked]


async def account(sessions: Sessions, email: str) -> User:
    async with session_scope(sessions) as session:
        user = await user_by_email(session, email)
    assert user is not None
    return user


async def verify(sessions: Sessions, token: str) -> UUID:
    async with session_scope(sessions) as session:
        return await registration.verify_email(session, token=token)


class TestRegister:
    async def test_account_waits_with_an_organization_of_its_own(self, sessions: Sessions, outbox: Outbox):
        email = f"{unique('person')}@example.com"
        await register(sessions, outbox, email)
        user = await account(sessions, email)
        assert user.email_verified_at is None
        async with session_scope(sessions) as session:
            [(organization, role)] = await memberships(session, user.id)
        assert (organization.kind, role) == (OrganizationKind.PROVIDER, Role.OWNER)
        assert await kinds(sessions, outbox) == [MailKind.VERIFY_EMAIL]

    async def test_address_with_an_account_gets_a_mail_and_nothing_changes(
        self, sessions: Sessions, outbox: Outbox
    ):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
        before = await account(sessions, customer.email)
        await register(sessions, outbox, customer.email.upper(), name="Somebody else")
        after = await account(sessions, customer.email)
        assert (after.name, after.password_hash) == (before.name, before.password_hash)
        assert await kinds(sessions, outbox) == [MailKind.ADDRESS_TAKEN]

    async def test_address_that_waits_keeps_its_first_password(self, sessions: Sessions, outbox: Outbox):
        email = f"{unique('person')}@example.com"
        await register(sessions, outbox, email)
        await register(sessions, outbox, email, name="Somebody else")
        assert (await account(sessions, email)).name == "A person"
        assert await kinds(sessions, outbox) == [MailKind.VERIFY_EMAIL] * 2

    async def test_of_ten_at_once_one_makes_the_account(self, sessions: Sessions, outbox: Outbox):
        email = f"{unique('race')}@example.com"
        await asyncio.gather(*(register(sessions, outbox, email) for _ in range(10)))
        async with session_scope(sessions) as session:
            assert await session.scalar(select(func.count()).where(User.email == email)) == 1
        assert len(outbox.asked) == 10

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("email", "no address"),
            ("name", " "),
            ("organization_name", "\n"),
            ("kind", OrganizationKind.PLATFORM),
            ("password", "password"),
            ("password", "raymart-person"),
        ],
    )
    def test_what_cannot_be_is_refused_before_any_work(self, field: str, value: object):
        given: dict[str, object] = {
            "email": "person@example.com",
            "password": "four words by chance",
            "name": "A person",
            "organization_name": "Org",
            "kind": OrganizationKind.CUSTOMER,
        }
        registration.check_sign_up(**given)  # type: ignore[arg-type]  # a table of values
        if (field, value) == ("password", "raymart-person"):
            value = "person1234"
        with pytest.raises(InvalidRequest):
            registration.check_sign_up(**(given | {field: value}))  # type: ignore[arg-type]  # what is tested


class TestVerifyEmail:
    async def test_token_verifies_once(self, sessions: Sessions, outbox: Outbox):
        email = f"{unique('person')}@example.com"
        await register(sessions, outbox, email)
        user = await account(sessions, email)
        assert await verify(sessions, outbox.last) == user.id
        assert (await account(sessions, email)).email_verified_at is not None
        with pytest.raises(InvalidRequest, match="ask for another mail"):
            await verify(sessions, outbox.last)
        with pytest.raises(Conflict, match="verified already"):
            async with session_scope(sessions) as session:
                await registration.ask_to_verify(session, outbox.mailing, user_id=user.id)

    async def test_of_ten_at_once_one_uses_the_token(self, sessions: Sessions, outbox: Outbox):
        await register(sessions, outbox, f"{unique('person')}@example.com")
        outcomes = await asyncio.gather(
            *(verify(sessions, outbox.last) for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(each, UUID) for each in outcomes) == 1

    async def test_token_expires(self, sessions: Sessions, outbox: Outbox):
        email = f"{unique('person')}@example.com"
        await register(sessions, outbox, email)
        async with session_scope(sessions) as session:
            await session.execute(
                update(AccountMail)
                .where(AccountMail.id == outbox.asked[-1])
                .values(expires_at=func.clock_timestamp())
            )
        with pytest.raises(InvalidRequest):
            await verify(sessions, outbox.last)
        assert (await account(sessions, email)).email_verified_at is None

    @pytest.mark.parametrize("token", ["", "rmm_" + "a" * 43, "rmm_", "\0", "\ud800", "a" * 100_000])
    async def test_invented_token_is_refused(self, sessions: Sessions, token: str):
        with pytest.raises(InvalidRequest):
            await verify(sessions, token)

    async def test_token_of_one_kind_is_not_good_for_another(self, sessions: Sessions, outbox: Outbox):
        email = f"{unique('person')}@example.com"
        await register(sessions, outbox, email)
        with pytest.raises(InvalidRequest):
            async with session_scope(sessions) as session:
                await registration.reset_password(
                    session, outbox.mailing, token=outbox.last, password_hash="stolen"
                )
        async with session_scope(sessions) as session:
            await registration.ask_for_reset(session, outbox.mailing, email=email)
        with pytest.raises(InvalidRequest):
            await verify(sessions, outbox.last)

    async def test_token_stands_in_no_row(self, sessions: Sessions, outbox: Outbox):
        await register(sessions, outbox, f"{unique('person')}@example.com")
        async with session_scope(sessions) as session:
            mail = await session.get_one(AccountMail, outbox.asked[-1])
        assert mail.token_hash == hash_mail_token(outbox.last)
        assert MailTokens(b"t" * 32).token(mail.id) != outbox.last


class TestResetPassword:
    async def test_password_is_replaced_and_every_session_ends(self, sessions: Sessions, outbox: Outbox):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            policy = SessionPolicy(tokens=RefreshTokens(b"s" * 32), idle_ttl_s=100, ttl_s=100)
            await open_session(
                session,
                policy,
                user=customer.user,
                method=LoginMethod.PASSWORD,
                device=Device(user_agent="", address=""),
            )
            await registration.ask_for_reset(session, outbox.mailing, email=customer.email)
            await registration.ask_for_reset(session, outbox.mailing, email=customer.email)
        first, second = [TOKENS.token(mail_id) for mail_id in outbox.asked]
        async with session_scope(sessions) as session:
            user_id = await registration.reset_password(
                session, outbox.mailing, token=second, password_hash="new"
            )
        assert user_id == customer.user.id
        async with session_scope(sessions) as session:
            assert await open_sessions_of(session, user_id) == []
            assert (await session.get_one(User, user_id)).password_hash == "new"
            assert await user_of_token(session, first, kind=MailKind.RESET_PASSWORD) is None, "void by now"
        assert (await kinds(sessions, outbox))[-1] is MailKind.PASSWORD_CHANGED

    async def test_who_reads_the_mail_has_verified_the_address(self, sessions: Sessions, outbox: Outbox):
        """Somebody else may have signed up with it: their password ends, and their mail with it."""
        email = f"{unique('person')}@example.com"
        await register(sessions, outbox, email)
        strangers = outbox.last
        async with session_scope(sessions) as session:
            await registration.ask_for_reset(session, outbox.mailing, email=email)
        async with session_scope(sessions) as session:
            await registration.reset_password(session, outbox.mailing, token=outbox.last, password_hash="own")
        assert (await account(sessions, email)).email_verified_at is not None
        with pytest.raises(InvalidRequest):
            await verify(sessions, strangers)

    async def test_unknown_and_disabled_accounts_get_no_mail(self, sessions: Sessions, outbox: Outbox):
        async with session_scope(sessions) as session:
            customer = await make_customer(session)
            await session.execute(
                update(User).where(User.id == customer.user.id).values(disabled_at=func.clock_timestamp())
            )
        for email in (customer.email, f"{unique('nobody')}@example.com"):
            async with session_scope(sessions) as session:
                await registration.ask_for_reset(session, outbox.mailing, email=email)
        assert outbox.asked == []
