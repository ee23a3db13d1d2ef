"""One look at the chain for many parts, as many questions for sixty parts as for one, and the proof of what has landed.

The order is what makes the answers mean something. The finalized height first, so that a signature that is unseen
afterwards and past its height can never land; then a slot, which the markers' accounts are asked not to be older than.
Any RPC error ends the look: an error is never an absence, and nothing was learnt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from raymart_billing.payouts.models import Purpose
from raymart_billing.payouts.sending.facts import Part
from raymart_billing.payouts.sending.landings import landing_of
from raymart_billing.payouts.sending.rules import SendingRules
from raymart_billing.payouts.sending.sights import Landing, Look, Sight, Stage
from raymart_billing.solana.answers import ChainTransaction, Confirmation, Presence, SignatureStatus
from raymart_billing.solana.chain import Chain
from raymart_billing.solana.errors import RpcError
from raymart_billing.solana.rpc import SIGNATURES_MAX

log = structlog.get_logger()

CANDIDATES_MAX = 20
"""Transactions that are looked at for a marker's creator. Nobody can name the address before our first broadcast."""


async def observe(chain: Chain, parts: Sequence[Part]) -> Mapping[UUID, Look]:
    """What the chain shows of each part, but for the transactions behind markers that stand. Raises: RpcError."""
    height = await chain.rpc.block_height("finalized")
    slot = await chain.rpc.slot("finalized")
    signatures = [attempt.signature for part in parts for attempt in part.live]
    statuses = dict(zip(signatures, await chain.rpc.statuses(signatures), strict=True))
    markers = [str(chain.marker(part.id, part.generation).address) for part in parts]
    presences = await chain.rpc.presences(markers, min_context_slot=slot)
    return {
        part.id: Look(
            height=height,
            sights={attempt.number: sight_of(statuses[attempt.signature]) for attempt in part.live},
            marker=presence,
        )
        for part, presence in zip(parts, presences, strict=True)
    }


async def prove(chain: Chain, part: Part, look: Look, rules: SendingRules) -> Look:
    """`look` with what the transaction behind the marker of `part` paid, where one stands and all endpoints show it."""
    if look.marker is not Presence.PRESENT:
        return look
    return replace(look, landing=await _landing(chain, part, look.sights, rules))


def sight_of(status: SignatureStatus | None) -> Sight:
    """What all endpoints together say of one signature."""
    if status is None:
        return Sight(stage=Stage.UNSEEN)
    if status.is_disputed:
        return Sight(stage=Stage.CLAIMED)
    if status.confirmation is not Confirmation.FINALIZED:
        return Sight(stage=Stage.SEEN)
    if status.error is None:
        return Sight(stage=Stage.SUCCEEDED)
    return Sight(stage=Stage.FAILED, error=status.error)


async def _landing(
    chain: Chain, part: Part, sights: Mapping[int, Sight], rules: SendingRules
) -> Landing | None:
    """The transaction that created the marker of `part`; None while an endpoint does not show it, or another one."""
    marker = str(chain.marker(part.id, part.generation).address)
    try:
        for candidates in (_live, _resolved, _naming):
            for signature in await candidates(chain, part, sights, marker, rules):
                transaction = await chain.rpc.transaction(signature)
                landing = None if transaction is None else _read(chain, part, marker, transaction)
                if landing is not None:
                    return landing
    except RpcError as error:
        # One part's proof is missing; that of the others is not.
        log.warning("payout.landing_unproven", part_id=str(part.id), error=error.message)
    return None


def _read(chain: Chain, part: Part, marker: str, transaction: ChainTransaction) -> Landing | None:
    return landing_of(
        transaction,
        marker=marker,
        treasury=str(chain.treasury),
        treasury_account=str(chain.source.token_account),
        mint=str(chain.mint),
        payees=part.payees,
    )


async def _live(
    _chain: Chain, part: Part, sights: Mapping[int, Sight], _marker: str, _rules: SendingRules
) -> Sequence[str]:
    """Attempts of ours that have just succeeded."""
    return [
        one.signature
        for one in part.live
        if one.purpose is not Purpose.OPEN and sights[one.number].stage is Stage.SUCCEEDED
    ]


async def _resolved(
    chain: Chain, part: Part, _sights: Mapping[int, Sight], _marker: str, _rules: SendingRules
) -> Sequence[str]:
    """Attempts of ours that were taken for dead and were not."""
    statuses = await chain.rpc.statuses(part.resolved)
    both = zip(part.resolved, statuses, strict=True)
    return [signature for signature, status in both if sight_of(status).stage is Stage.SUCCEEDED]


async def _naming(
    chain: Chain, _part: Part, _sights: Mapping[int, Sight], marker: str, rules: SendingRules
) -> Sequence[str]:
    """The oldest transactions that name the marker: its creator is there also when all rows of attempts were lost.

    None while its history cannot be read to its start, for a later one proves nothing.
    """
    found: list[str] = []
    read, before = 0, None
    while read < rules.signatures_read_max:
        page = await chain.rpc.signatures_of(marker, before=before)
        found += [info.signature for info in page if info.error is None]
        if len(page) < SIGNATURES_MAX:
            return found[::-1][:CANDIDATES_MAX]
        read, before = read + len(page), page[-1].signature
    return ()
