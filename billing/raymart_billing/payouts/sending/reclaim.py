"""Rent of markers back, after the time from which no copy of the database will ever be restored again.

A marker that is gone proves nothing any more, so nothing that old is sent either (`Part.is_too_old`), and the signer asks
the books for itself. A transaction that empties nine markers can land once: a second one finds nothing to move. What was
sent is not written down: the next look finds the accounts gone and says so in the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import text

from raymart_billing.payouts.sending.failpoints import Failpoint, Failpoints, NoFailpoints
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.solana.answers import Presence
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.fees import limits_for
from raymart_billing.solana.marker import Marker
from raymart_billing.solana.transactions import COMPUTE_UNITS_MAX, Limits, build_reclaim
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

MARKERS_PER_TRANSACTION = 9
MARKERS_PER_RUN = 180

_OLD = text("""
    select id, generation, marker from payout_part
     where state = 'finalized' and marker_reclaimed_at is null
       and finalized_at < clock_timestamp() - make_interval(secs => :retention_s)
     order by finalized_at limit :parts_max
""")
_RECLAIMED = text("""
    update payout_part set marker_reclaimed_at = clock_timestamp() where id = any(:ids) and marker_reclaimed_at is null
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Old:
    part_id: UUID
    marker: Marker


async def reclaim_markers(
    sessions: Sessions,
    chain: Chain,
    rules: SendingRules,
    *,
    failpoints: Failpoints | None = None,
) -> int:
    """Note which old markers are gone, and ask the rent of the others back; returns how many were asked for.

    Costs at most one transaction per nine markers and call. Raises: RpcError, SigningRefused.
    """
    old = await _old(sessions, chain, rules)
    slot = await chain.rpc.slot("finalized")
    presences = await chain.rpc.presences([one.marker.address for one in old], min_context_slot=slot)
    both = list(zip(old, presences, strict=True))
    gone = [one.part_id for one, presence in both if presence is Presence.ABSENT]
    if gone:
        async with session_scope(sessions) as session:
            await session.execute(_RECLAIMED, {"ids": gone})
        log.info("payout.markers_reclaimed", markers=len(gone))
    standing = [one.marker for one, presence in both if presence is Presence.PRESENT]
    for start in range(0, len(standing), MARKERS_PER_TRANSACTION):
        await _ask_back(chain, standing[start : start + MARKERS_PER_TRANSACTION], rules)
        (failpoints or NoFailpoints()).hit(Failpoint.AFTER_RECLAIM_BROADCAST)
    return len(standing)


async def _old(sessions: Sessions, chain: Chain, rules: SendingRules) -> Sequence[_Old]:
    parameters = {
        "retention_s": rules.marker_retention.total_seconds(),
        "parts_max": MARKERS_PER_RUN,
    }
    async with session_scope(sessions) as session:
        rows = (await session.execute(_OLD, parameters)).all()
    old = [_Old(part_id=row.id, marker=chain.marker(row.id, row.generation)) for row in rows]
    # A part that was settled under a key of its own time keeps its rent: this process cannot make its seed.
    written = {row.id: row.marker for row in rows}
    return [one for one in old if str(one.marker.address) == written[one.part_id]]


async def _ask_back(chain: Chain, markers: Sequence[Marker], rules: SendingRules) -> None:
    accounts = await chain.rpc.accounts([marker.address for marker in markers])
    held = [
        (marker, account.lamports)
        for marker, account in zip(markers, accounts, strict=True)
        if account is not None
    ]
    if not held:
        return
    blockhash = await chain.rpc.latest_blockhash()
    build = partial(build_reclaim, chain.treasury, held, blockhash=blockhash.hash, version=chain.version)
    simulated = await chain.rpc.simulate(build(limits=Limits(compute_units=COMPUTE_UNITS_MAX)).unsigned())
    if simulated.error is not None:
        log.warning("payout.reclaim_refused", error=simulated.error.text)
        return
    limits = limits_for(
        simulated_units=simulated.units,
        price_micro_lamports=0,
        bumps=0,
        priority_fee_lamports_max=rules.priority_fee_lamports_max,
    )
    unsigned = build(limits=limits)
    signature = await chain.signer.sign(unsigned.message)
    await chain.rpc.broadcast(unsigned.signed(signature))
    log.info("payout.reclaim_sent", markers=len(held), signature=str(signature))
