"""What a payout wallet is on the chain: a wallet that somebody can sign for, with a token account that can be paid.

No answer is no finding: while an endpoint is away a wallet stays as it is, and one that was never checked is not paid.
Each endpoint is asked, and one objection is enough: to pay nobody for a day is better than to pay nobody's account.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from solders.pubkey import Pubkey
from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payout_wallets.models import CheckState, PayoutWallet
from raymart_billing.payout_wallets.requests import Event, tell_later
from raymart_billing.solana import SolanaRpc, why_unpayable
from raymart_billing.solana.addresses import token_account, why_no_wallet
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

CHECKED_AT_ONCE_MAX = 500
"""Wallets of one run; two accounts each."""
CHECK_AGAIN_AFTER = timedelta(hours=24)
"""A token account can be frozen or handed over later. Before each payment the sender looks again."""
_OF_TOKEN_ACCOUNT = {
    "wrong_owner": "its USDC account was handed over to somebody else",
    "account_frozen": "its USDC account is frozen by Circle",
    "wrong_mint": "its USDC account is of another token",
}
"""What `why_unpayable` finds, in words. That the account is not there yet is no objection: payouts create it."""


async def check_wallets(sessions: Sessions, rpc: SolanaRpc, mint: Pubkey, wallet_ids: Sequence[UUID]) -> int:
    """Look at these choices on the chain and keep what was found; returns how many cannot be paid.

    Choices that are over are left alone. No transaction is open meanwhile. Raises: RpcError.
    """
    async with session_scope(sessions) as session:
        standing = select(PayoutWallet.id, PayoutWallet.address).where(
            PayoutWallet.id.in_(wallet_ids), PayoutWallet.ended_at.is_(None)
        )
        addresses = {row.id: row.address for row in await session.execute(standing)}
    if not addresses:
        return 0
    await rpc.check()
    findings = await find_objections(rpc, mint, sorted(set(addresses.values())))
    async with session_scope(sessions) as session:
        # In the order of their ids: two runs at once do not wait for each other in a circle.
        for wallet_id in sorted(addresses):
            await _keep(session, wallet_id, findings.get(addresses[wallet_id]))
    return sum(address in findings for address in addresses.values())


async def find_objections(rpc: SolanaRpc, mint: Pubkey, addresses: Sequence[str]) -> Mapping[str, str]:
    """Of `addresses` those that cannot be paid as wallets, each with the reason in words. Raises: RpcError."""
    wallets = [Pubkey.from_string(address) for address in addresses]
    tokens = [token_account(wallet, mint) for wallet in wallets]
    findings: dict[str, str] = {}
    for endpoint in range(rpc.endpoints):
        found = await rpc.accounts([*wallets, *tokens], endpoint=endpoint)
        for wallet, account, held in zip(wallets, found[: len(wallets)], found[len(wallets) :], strict=True):
            reason = why_no_wallet(wallet, account) or _OF_TOKEN_ACCOUNT.get(
                why_unpayable(held, owner=wallet, mint=mint) or ""
            )
            if reason is not None:
                findings[str(wallet)] = reason
    return findings


async def due_checks(session: AsyncSession) -> Sequence[UUID]:
    """Current choices that were not looked at yet, or a day ago; the longest-waiting first."""
    statement = (
        select(PayoutWallet.id)
        .where(
            PayoutWallet.ended_at.is_(None),
            or_(
                PayoutWallet.checked_at.is_(None),
                PayoutWallet.checked_at < func.clock_timestamp() - CHECK_AGAIN_AFTER,
            ),
        )
        .order_by(PayoutWallet.checked_at.nulls_first(), PayoutWallet.id)
        .limit(CHECKED_AT_ONCE_MAX)
    )
    return (await session.scalars(statement)).all()


async def _keep(session: AsyncSession, wallet_id: UUID, finding: str | None) -> None:
    """Write down what was found, and have the owners told of an objection that is new."""
    state = CheckState.PASSED if finding is None else CheckState.FAILED
    before = (
        select(PayoutWallet.check_state).where(PayoutWallet.id == wallet_id).with_for_update(key_share=True)
    )
    was = await session.scalar(before)
    await session.execute(
        update(PayoutWallet)
        .where(PayoutWallet.id == wallet_id, PayoutWallet.ended_at.is_(None))
        .values(check_state=state, checked_at=func.clock_timestamp(), check_finding=finding)
    )
    if state is CheckState.FAILED and was is not CheckState.FAILED:
        await tell_later(session, wallet_id, Event.CHECK_FAILED)
        log.warning("payout_wallet.check_failed", wallet_id=str(wallet_id), finding=finding)
