"""From earnings to a batch that waits for people, in order: matured holdbacks, the epoch, its earnings, its batch."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.earnings import draw_earnings, release_matured
from raymart_billing.payouts.epochs import close_due_epoch, close_epoch_now, newest_epoch
from raymart_billing.payouts.models import Epoch, PayoutBatch
from raymart_billing.payouts.planning import BEING_PLANNED, Plan, plan_epoch
from raymart_billing.payouts.policy import present_rules
from raymart_core.errors import Conflict, Unavailable
from raymart_marketplace.chain_settings import ChainSettings
from raymart_marketplace.db.session import Sessions, session_scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The newest epoch, and what was planned for it."""

    epoch: Epoch
    plan: Plan


def mint_of(settings: ChainSettings) -> str | None:
    """What is paid; None where Solana is not configured, and so nothing is planned."""
    return settings.usdc_mint_address if settings.solana_rpc_urls else None


async def run_due(sessions: Sessions, *, mint: str | None) -> Planned | None:
    """What is due by the clock: every holdback that has matured, the epoch that is over, and its batch, once.

    Without a `mint` earnings are drawn and nothing is planned. None when no epoch waited.
    """
    await release_matured(sessions)
    async with session_scope(sessions) as session:
        await close_due_epoch(session, epoch_hours=(await present_rules(session)).epoch_hours)
        epoch = await newest_epoch(session)
        if epoch is None or (epoch.planned_at is not None and not await _is_unfinished(session, epoch)):
            return None
    if epoch.closed_at is None:
        await draw_earnings(sessions, epoch.id)
    if mint is None:
        return None
    return Planned(epoch=epoch, plan=await plan_epoch(sessions, epoch.id, mint=mint, created_by=None))


async def run_now(
    sessions: Sessions, *, mint: str | None, ends_epoch: bool, created_by: UUID | None
) -> Planned:
    """The same on demand: ends the running epoch first when asked to, else pays who could not be paid for the last one.

    `created_by` has planned what comes of it, and so does not approve it.
    Raises: Unavailable without a `mint`, Conflict when no epoch is over.
    """
    if mint is None:
        raise Unavailable("payouts are not configured here; the operator sets SOLANA_RPC_URL")
    await release_matured(sessions)
    async with session_scope(sessions) as session:
        hours = (await present_rules(session)).epoch_hours
        await (close_epoch_now if ends_epoch else close_due_epoch)(session, epoch_hours=hours)
        epoch = await newest_epoch(session)
    if epoch is None:
        raise Conflict("no epoch is over and no provider has earned; end the running one when somebody has")
    if epoch.closed_at is None:
        await draw_earnings(sessions, epoch.id)
    return Planned(epoch=epoch, plan=await plan_epoch(sessions, epoch.id, mint=mint, created_by=created_by))


async def _is_unfinished(session: AsyncSession, epoch: Epoch) -> bool:
    """Whether a run died that was planning a batch of it."""
    query = select(PayoutBatch.id).where(
        PayoutBatch.epoch_id == epoch.id, PayoutBatch.hold_reason == BEING_PLANNED
    )
    return await session.scalar(query.limit(1)) is not None
