"""Telling people: by e-mail where there is a server, at least once, and never what is over."""

import smtplib
from uuid import UUID

import pytest
from sqlalchemy import update

from raymart_billing.alerts import (
    Alert,
    AlertKind,
    deliver,
    raise_alert,
)
from raymart_billing.mail import NoChannel, SmtpChannel, open_channel
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_marketplace.accounts import service as accounts
from raymart_marketplace.accounts.models import Organization, Role, User
from raymart_marketplace.db.session import session_scope
from support.api_server import control_settings
from support.card_market import CENT, CardCustomer, CardMarket
from support.mail_server import MailServer


def channel(server: MailServer) -> SmtpChannel:
    return SmtpChannel(
        host="127.0.0.1",
        port=server.port,
        user=None,
        password=None,
        starttls=False,
        sender="Raymart <a@b.example>",
    )


async def member(market: CardMarket, customer: CardCustomer, role: Role) -> str:
    email = f"{role.value}-{new_id().hex[-12:]}@example.com"
    async with session_scope(market.sessions) as session:
        user = User(id=new_id(), email=email, name="Person", password_hash="x")
        session.add(user)
        await session.flush()
        await accounts.add_member(
            session, organization_id=customer.organization_id, user_id=user.id, role=role
        )
    return email


async def alarm(market: CardMarket, customer: CardCustomer) -> UUID:
    from tests.billing.alerts.test_low_balance import alerts

    async with session_scope(market.sessions) as session:
        await raise_alert(
            session,
            organization_id=customer.organization_id,
            kind=AlertKind.LOW_BALANCE,
            threshold=Money(500 * CENT),
            value=Money(123 * CENT),
        )
    return (await alerts(market, customer))[-1].id


class TestDeliver:
    async def test_owners_and_admins_get_a_mail_each(self, market: CardMarket, customer: CardCustomer):
        told = [await member(market, customer, role) for role in (Role.OWNER, Role.ADMIN)]
        await member(market, customer, Role.DEVELOPER)
        alert_id = await alarm(market, customer)
        with MailServer() as server:
            assert await deliver(market.sessions, channel(server), alert_id)
            assert not await deliver(market.sessions, channel(server), alert_id), "once it was told"
        assert sorted(address for address, _ in server.mails) == sorted(told)
        assert all(str(mail["To"]) == address for address, mail in server.mails)
        assert "1.23" in server.mails[0][1].get_content()

    async def test_server_that_refuses_is_tried_again(self, market: CardMarket, customer: CardCustomer):
        await member(market, customer, Role.OWNER)
        alert_id = await alarm(market, customer)
        with MailServer(refusals=1) as server:
            with pytest.raises(smtplib.SMTPException):
                await deliver(market.sessions, channel(server), alert_id)
            assert await deliver(market.sessions, channel(server), alert_id)
        assert len(server.mails) == 1

    async def test_one_that_is_over_is_not_told_any_more(self, market: CardMarket, customer: CardCustomer):
        await member(market, customer, Role.OWNER)
        alert_id = await alarm(market, customer)
        async with session_scope(market.sessions) as session:
            await session.execute(
                update(Alert).where(Alert.id == alert_id).values(cleared_at=Alert.created_at)
            )
        with MailServer() as server:
            assert not await deliver(market.sessions, channel(server), alert_id)
        assert server.mails == []

    async def test_name_with_a_line_break_adds_no_header(self, market: CardMarket, customer: CardCustomer):
        await member(market, customer, Role.OWNER)
        async with session_scope(market.sessions) as session:
            named = update(Organization).where(Organization.id == customer.organization_id)
            await session.execute(named.values(name="Evil\r\nBcc: victim@example.com"))
        alert_id = await alarm(market, customer)
        with MailServer() as server:
            await deliver(market.sessions, channel(server), alert_id)
        [(_, mail)] = server.mails
        assert mail["Bcc"] is None


class TestChannel:
    def test_without_a_mail_server_alerts_are_only_shown(self, database_url: str):
        assert isinstance(open_channel(control_settings(database_url)), NoChannel)
        found = open_channel(control_settings(database_url, smtp_host="mail.example.com"))
        assert isinstance(found, SmtpChannel)
