"""Telling people of an alert: by e-mail where a mail server is set, else only in the API. At least once."""

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import func, select, tuple_, update

from raymart_billing.alerts.models import Alert, AlertKind
from raymart_billing.mail import Channel, Notice
from raymart_core.money import Money
from raymart_marketplace.accounts.models import Membership, Organization, Role, User
from raymart_marketplace.accounts.permissions import Permission, roles_with
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

RECIPIENTS_MAX = 20


async def deliver(sessions: Sessions, channel: Channel, alert_id: UUID) -> bool:
    """Tell the organization's owners, then who else minds its billing; returns whether there was something to tell. No transaction meanwhile.

    One that was cleared before it was told is not told any more. Raises: what the channel raises.
    """
    async with session_scope(sessions) as session:
        query = (
            select(Alert, Organization.name)
            .join(Organization, Organization.id == Alert.organization_id)
            .where(Alert.id == alert_id)
        )
        alert, name = (await session.execute(query)).one()
        people = (
            select(User.email)
            .join(Membership, Membership.user_id == User.id)
            .join(Organization, Organization.id == Membership.organization_id)
            .where(
                Membership.organization_id == alert.organization_id,
                tuple_(Organization.kind, Membership.role).in_(roles_with(Permission.BILLING_MANAGE)),
                User.disabled_at.is_(None),
            )
            .order_by(Membership.role != Role.OWNER, Membership.id)
            .limit(RECIPIENTS_MAX)
        )
        addresses = (await session.scalars(people)).all()
    if alert.delivered_at is not None:
        return False
    tell = alert.cleared_at is None and bool(addresses)
    if tell:
        await channel.send(_notice(alert, name, addresses))
    async with session_scope(sessions) as session:
        told = update(Alert).where(Alert.id == alert_id).values(delivered_at=func.clock_timestamp())
        await session.execute(told)
    log.info("alert.delivered", alert_id=str(alert_id), recipients=len(addresses) if tell else 0)
    return tell


def _notice(alert: Alert, name: str, addresses: Sequence[str]) -> Notice:
    value, threshold = Money(alert.value_nano_usd), Money(alert.threshold_nano_usd)
    # A header must not end a line: a name with a line break would add headers of its owner's choice.
    shown = " ".join(name.split())
    if alert.kind is AlertKind.LOW_BALANCE:
        subject = f"Raymart: the balance of {shown} is low"
        text = f"The balance of {shown} is {value}, below your threshold of {threshold}.\nTop up to go on without a break."
    else:
        state = "used up" if alert.kind is AlertKind.BUDGET_EXHAUSTED else "nearly used up"
        subject = f"Raymart: a budget of {shown} is {state}"
        text = f"{value} of a budget of {threshold} of {shown} is spent."
    return Notice(addresses=addresses, subject=subject, text=text)
