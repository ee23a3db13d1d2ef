"""Mails about accounts, through a real SMTP conversation and into a folder."""

import stat
from email import message_from_bytes, policy
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, text, update

from raymart_billing.mail import FolderChannel, SmtpChannel, open_channel, send_later
from raymart_billing.mail.account_mail import SEND_TASK, send
from raymart_billing.work import GiveUp
from raymart_marketplace.accounts.account_mail import Mailing, MailTokens
from raymart_marketplace.accounts.mail_models import AccountMail, MailKind
from raymart_marketplace.db.session import Sessions, session_scope
from support.api_server import control_settings
from support.mail_server import MailServer
from support.market import make_customer

TOKENS = MailTokens(b"s" * 32)
CONSOLE = "https://example.com/console/"


class Person:
    """Somebody who is written to."""

    def __init__(self, sessions: Sessions, email: str, user_id: UUID) -> None:
        self.sessions = sessions
        self.email = email
        self.user_id = user_id

    async def ask(self, kind: MailKind) -> UUID:
        async with session_scope(self.sessions) as session:
            return await Mailing(tokens=TOKENS, send_later=send_later).ask(
                session, user_id=self.user_id, kind=kind
            )

    async def send(self, server: MailServer, mail_id: UUID, *, tokens: MailTokens = TOKENS) -> bool:
        channel = SmtpChannel(
            host="127.0.0.1",
            port=server.port,
            user=None,
            password=None,
            starttls=False,
            sender="r@example.com",
        )
        return await send(self.sessions, channel, mail_id, tokens=tokens, console_url=CONSOLE)


@pytest.fixture
async def person(sessions: Sessions) -> Person:
    async with session_scope(sessions) as session:
        customer = await make_customer(session)
    return Person(sessions, customer.email, customer.user.id)


class TestSendLater:
    async def test_row_and_task_are_one_transaction(self, person: Person):
        mail_id = await person.ask(MailKind.VERIFY_EMAIL)
        async with person.sessions() as session:
            lost = await Mailing(tokens=TOKENS, send_later=send_later).ask(
                session, user_id=person.user_id, kind=MailKind.VERIFY_EMAIL
            )
            await session.rollback()
        asked = text("select count(*) from outbox where task = :task and subject = :subject")
        async with session_scope(person.sessions) as session:
            for subject, expected in ((mail_id, 1), (lost, 0)):
                found = await session.scalar(asked, {"task": SEND_TASK, "subject": str(subject)})
                assert found == expected


class TestSend:
    @pytest.mark.parametrize("kind", MailKind)
    async def test_each_kind_reaches_its_person_once_and_only_two_carry_a_token(
        self, person: Person, kind: MailKind
    ):
        mail_id = await person.ask(kind)
        with MailServer() as server:
            assert await person.send(server, mail_id)
            assert not await person.send(server, mail_id), "a repeat"
        [(recipient, message)] = server.mails
        assert recipient == person.email
        carries = kind in {MailKind.VERIFY_EMAIL, MailKind.RESET_PASSWORD}
        said = message.get_content()
        assert (TOKENS.token(mail_id) in said) == carries
        assert (f"{CONSOLE}{kind.value.replace('_', '-')}#token=" in said) == carries

    async def test_mail_whose_token_is_over_is_not_sent(self, person: Person):
        used, expired = [await person.ask(MailKind.RESET_PASSWORD) for _ in range(2)]
        async with session_scope(person.sessions) as session:
            for mail_id, change in ((used, "used_at"), (expired, "expires_at")):
                await session.execute(
                    update(AccountMail)
                    .where(AccountMail.id == mail_id)
                    .values({change: func.clock_timestamp()})
                )
        with MailServer() as server:
            assert not await person.send(server, used)
            assert not await person.send(server, expired)
        assert server.mails == []

    async def test_refused_mail_is_sent_by_the_next_run(self, person: Person):
        mail_id = await person.ask(MailKind.VERIFY_EMAIL)
        with MailServer(refusals=1) as server:
            with pytest.raises(OSError):
                await person.send(server, mail_id)
            assert await person.send(server, mail_id)
        assert len(server.mails) == 1

    async def test_another_secret_gives_up_instead_of_sending_a_dead_link(self, person: Person):
        mail_id = await person.ask(MailKind.VERIFY_EMAIL)
        with MailServer() as server, pytest.raises(GiveUp):
            await person.send(server, mail_id, tokens=MailTokens(b"t" * 32))
        assert server.mails == []


class TestFolderChannel:
    async def test_development_machine_keeps_mails_as_private_files(
        self, person: Person, database_url: str, tmp_path: Path
    ):
        channel = open_channel(control_settings(database_url, data_dir=tmp_path))
        assert isinstance(channel, FolderChannel)
        mail_id = await person.ask(MailKind.VERIFY_EMAIL)
        await send(person.sessions, channel, mail_id, tokens=TOKENS, console_url=CONSOLE)
        [file] = (tmp_path / "mail").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        message = message_from_bytes(file.read_bytes(), policy=policy.default)
        assert message["To"] == person.email

    def test_production_writes_no_files(self, database_url: str, tmp_path: Path):
        found = open_channel(control_settings(database_url, data_dir=tmp_path, development=False))
        assert not isinstance(found, FolderChannel)
