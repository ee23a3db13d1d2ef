"""What stands in the way of an organization's end: money that is not settled, and what still runs. Reads only."""

# ruff: noqa: S608 - statements are put together from names of our own; what is given are parameters.
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import AccountKind

_PROVIDERS = "(select id from provider where organization_id = :id)"
_SETTLE: Mapping[AccountKind, str] = {
    AccountKind.CUSTOMER_BALANCE: "its balance is not zero; spend it, or ask the marketplace to pay it back",
    AccountKind.CUSTOMER_RECEIVABLE: "it owes money; top up, so that the debt is settled",
    AccountKind.CUSTOMER_DISPUTE: "a payment of its is disputed; wait for the card network's decision",
    AccountKind.PROVIDER_PAYABLE: "its earnings are not paid out; wait for the payout, or ask the marketplace for it",
    AccountKind.PROVIDER_RESERVE: "a reserve of its earnings is held; wait until it is released and paid out",
    AccountKind.PAYOUT_CLEARING: "a payout is on its way; wait until it has arrived",
}
_REST = "the ledger still holds money of it; ask the marketplace to settle it"
_MONEY = text(
    "select kind, bool_or(debits_pending <> 0 or credits_pending <> 0) as is_held from ledger_account"
    f" where (owner_id = :id or owner_id in {_PROVIDERS})"
    " and (debits_posted <> credits_posted or debits_pending <> 0 or credits_pending <> 0)"
    " group by kind order by kind"
)
_HELD = "requests of it are running or being booked; revoke its keys, and try again in some minutes"
_RUNNING: Sequence[tuple[str, str]] = (
    ("select from organization where id = :id and kind = 'platform'", "it runs the marketplace itself"),
    ("select from credit_lease where organization_id = :id and closed_at is null", _HELD),
    (
        f"select from usage_record where posted_at is null and (organization_id = :id or provider_id in {_PROVIDERS})",
        _HELD,
    ),
    (
        "select from deposit where organization_id = :id and state in ('created', 'pending', 'succeeded')",
        "a top-up is on its way; wait until it is credited or has expired",
    ),
    (
        "select from usdc_deposit where organization_id = :id and state in ('seen', 'final', 'refunding')",
        "a payment in USDC is on its way in or back; wait until it has arrived",
    ),
    (
        "select from invoice where organization_id = :id and state = 'draft'",
        "an invoice is a draft yet; wait until it is final",
    ),
    (
        f"select from offer where provider_id in {_PROVIDERS} and state <> 'closed'",
        "it still sells; close its offers",
    ),
    (
        f"select from node where provider_id in {_PROVIDERS} and state <> 'retired'",
        "it still has machines in the market; retire them",
    ),
)


async def obstacles(session: AsyncSession, organization_id: UUID) -> list[str]:
    """Why the organization cannot be erased now, each with what to do; empty when it can."""
    given = {"id": organization_id}
    found = []
    for kind, is_held in (await session.execute(_MONEY, given)).all():
        found.append(_HELD if is_held else _SETTLE.get(AccountKind(kind), _REST))
    for query, reason in _RUNNING:
        if await session.scalar(text(f"select exists ({query})"), given):
            found.append(reason)
    return list(dict.fromkeys(found))
