"""The one way to send mail: through a server (SMTP), into a folder on a development machine, or not at all."""

import asyncio
import smtplib
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from raymart_core.ids import new_id
from raymart_marketplace.settings import ControlSettings

SMTP_TIMEOUT_S = 15.0
"""Of each answer of the mail server."""
SEND_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is told, to whom."""

    addresses: Sequence[str]
    subject: str
    text: str


class Channel(Protocol):
    """A way to reach people."""

    async def send(self, notice: Notice) -> None:
        """Hand `notice` on. Raises: OSError, smtplib.SMTPException, TimeoutError; it is then sent again later."""


class NoChannel:
    """Where none is configured: alerts are seen in the API only."""

    async def send(self, notice: Notice) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpChannel:
    """E-mail through one server; each address gets a message of its own and sees no other."""

    host: str
    port: int
    user: str | None
    password: SecretStr | None
    starttls: bool
    sender: str

    async def send(self, notice: Notice) -> None:
        """One connection for all addresses."""
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await asyncio.to_thread(self._send, notice)

    def _send(self, notice: Notice) -> None:
        with smtplib.SMTP(self.host, self.port, timeout=SMTP_TIMEOUT_S) as server:
            if self.starttls:
                server.starttls()
            if self.user is not None and self.password is not None:
                server.login(self.user, self.password.get_secret_value())
            for message in _messages(notice, self.sender):
                server.send_message(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderChannel:
    """Files for whoever develops: a machine for looking around has no mail server, and its mails have to be read."""

    folder: Path
    sender: str

    async def send(self, notice: Notice) -> None:
        """A file for each address, readable by the owner of the process alone."""
        await asyncio.to_thread(self._write, notice)

    def _write(self, notice: Notice) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in _messages(notice, self.sender):
            path = self.folder / f"{new_id().hex}.eml"
            path.touch(mode=0o600)
            path.write_bytes(message.as_bytes())


def open_channel(settings: ControlSettings) -> Channel:
    """The channel of `settings`."""
    if settings.smtp_host is None:
        if settings.development and settings.data_dir is not None:
            return FolderChannel(folder=settings.data_dir / "mail", sender=settings.mail_from)
        return NoChannel()
    return SmtpChannel(
        host=settings.smtp_host,
        port=settings.smtp_port,
        user=settings.smtp_user,
        password=settings.smtp_password,
        starttls=settings.smtp_starttls,
        sender=settings.mail_from,
    )


def _messages(notice: Notice, sender: str) -> Sequence[EmailMessage]:
    """A message of its own for each address, so that nobody sees the others."""
    messages = []
    for address in notice.addresses:
        message = EmailMessage()
        message["From"], message["To"] = sender, address
        message["Subject"] = notice.subject
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(notice.text)
        messages.append(message)
    return messages
