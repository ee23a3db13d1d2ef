"""Payments that the chain's majority has confirmed and that are not final: shown to customers, worth no money.

One endpoint's word is enough for showing. What is on no fork any more is shown as dropped.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.solana import answers
from raymart_billing.solana.answers import Malformed
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.errors import RpcUnavailable
from raymart_billing.usdc_deposits.arrivals import Arrival, arrival_of
from raymart_billing.usdc_deposits.crediting import see
from raymart_billing.usdc_deposits.models import UsdcDeposit, UsdcDepositState, UsdcScan
from raymart_marketplace.db.session import Sessions, session_scope

SEEN_MAX = 100
"""Payments on their way that one run looks at; what is beyond is seen when it is final."""


async def look(sessions: Sessions, chain: Chain) -> int:
    """Show what was confirmed and drop what has vanished; returns how many were new. Safe to repeat. Raises: RpcError."""
    account = str(chain.treasury_token_account)
    async with session_scope(sessions) as session:
        cursor = await session.scalar(select(UsdcScan.cursor).where(UsdcScan.account == account))
        shown = await _on_their_way(session, account)
    infos = await _confirmed(chain, account, cursor=cursor)
    new = 0
    for info in infos:
        if info.signature in shown or info.error is not None:
            continue
        arrival = await _arrival(chain, info)
        if arrival is not None:
            async with session_scope(sessions) as session:
                new += await see(session, arrival)
    missing = shown.keys() - {info.signature for info in infos}
    if missing:
        await _drop_vanished(sessions, chain, {signature: shown[signature] for signature in missing})
    return new


async def _on_their_way(session: AsyncSession, account: str) -> Mapping[str, int]:
    """Slots of what is shown as seen, by signature."""
    query = select(UsdcDeposit.signature, UsdcDeposit.slot).where(
        UsdcDeposit.state == UsdcDepositState.SEEN, UsdcDeposit.account == account
    )
    return {row.signature: row.slot for row in await session.execute(query)}


async def _confirmed(chain: Chain, account: str, *, cursor: str | None) -> Sequence[answers.SignatureInfo]:
    options: dict[str, object] = {"commitment": "confirmed", "limit": SEEN_MAX}
    options |= {"until": cursor} if cursor else {}
    found = await chain.rpc.request("getSignaturesForAddress", [account, options])
    try:
        return answers.read_signatures(found)
    except Malformed as error:
        raise RpcUnavailable(f"the confirmed transactions of {account} cannot be read: {error}") from error


async def _arrival(chain: Chain, info: answers.SignatureInfo) -> Arrival | None:
    options = {"commitment": "confirmed", "encoding": "json", "maxSupportedTransactionVersion": 1}
    found = await chain.rpc.request("getTransaction", [info.signature, options])
    try:
        transaction = answers.read_transaction(found, info.signature)
    except Malformed as error:
        raise RpcUnavailable(f"transaction {info.signature} cannot be read: {error}") from error
    if transaction is None:
        return None
    return arrival_of(
        transaction, account=str(chain.treasury_token_account), mint=str(chain.mint), memo=info.memo
    )


async def _drop_vanished(sessions: Sessions, chain: Chain, slots: Mapping[str, int]) -> None:
    """Those whose slot is final without them. The slot is asked for first: what lands in between is then not missed."""
    final_slot = await chain.rpc.slot("finalized")
    due = [signature for signature, slot in slots.items() if slot < final_slot]
    statuses = await chain.rpc.statuses(due) if due else []
    gone = [signature for signature, status in zip(due, statuses, strict=True) if status is None]
    async with session_scope(sessions) as session:
        await session.execute(
            update(UsdcDeposit)
            .where(
                UsdcDeposit.signature.in_(gone),
                UsdcDeposit.account == str(chain.treasury_token_account),
                UsdcDeposit.state == UsdcDepositState.SEEN,
            )
            .values(state=UsdcDepositState.DROPPED)
        )
