"""Telling the platform's finance of new differences, by mail where a mail server is set. At least once."""

from uuid import UUID

import structlog
from sqlalchemy import select, tuple_

from raymart_billing.mail import Channel, Notice
from raymart_billing.payouts.reconciliation.models import ReconciliationDifference, ReconciliationRun
from raymart_marketplace.accounts.models import Membership, Organization, User
from raymart_marketplace.accounts.permissions import Permission, roles_with
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

RECIPIENTS_MAX = 20
NAMED_MAX = 20
"""Differences that a mail names; the API has them all."""


async def tell_differences(sessions: Sessions, channel: Channel, run_id: UUID) -> int:
    """Mail what the run found first to whoever manages payouts; returns to how many. No transaction meanwhile.

    Raises: what the channel raises.
    """
    async with session_scope(sessions) as session:
        run = await session.get_one(ReconciliationRun, run_id)
        new = (
            await session.scalars(
                select(ReconciliationDifference)
                .where(ReconciliationDifference.run_id == run_id)
                .order_by(ReconciliationDifference.id)
                .limit(NAMED_MAX)
            )
        ).all()
        people = (
            select(User.email)
            .join(Membership, Membership.user_id == User.id)
            .join(Organization, Organization.id == Membership.organization_id)
            .where(
                tuple_(Organization.kind, Membership.role).in_(
                    roles_with(Permission.PLATFORM_PAYOUTS_MANAGE)
                ),
                User.disabled_at.is_(None),
            )
            .order_by(Membership.id)
            .limit(RECIPIENTS_MAX)
        )
        addresses = (await session.scalars(people)).all()
    if not addresses:
        log.warning("reconciliation.nobody_to_tell", number=run.number)
        return 0
    lines = [
        f"- {one.kind.value}: {one.subject_table} {one.subject}: expected {one.expected}, found {one.found}"
        for one in new
    ]
    text = (
        f"Reconciliation {run.number} found that the chain and the ledger differ ({run.differences} differences in all)."
        " Payouts are stopped until each has a reason:\n\n"
        + "\n".join(lines)
        + "\n\nLook: raymart payouts differences. Resolve: raymart payouts resolve <id> --reason ...\n"
    )
    await channel.send(
        Notice(
            addresses=addresses, subject="Raymart: payouts are stopped, chain and ledger differ", text=text
        )
    )
    return len(addresses)
