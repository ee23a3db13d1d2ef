"""Leases on parts. Who claims a part counts up its fence; what an older claim writes afterwards is refused.

The marker makes two senders of one part harmless to money; the lease only keeps them from paying two fees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.work import LeaseLost

_CLAIM = text("""
    with picked as (
        select part.id from payout_part part join payout_batch batch on batch.id = part.batch_id
         where (part.state in ('signed', 'submitted')
                or part.state in ('planned', 'waiting_funds') and batch.state in ('approved', 'sending')
                -- What has no marker was never signed.
                or part.state = 'held' and part.marker is not null)
           and (part.id = :part_id or cast(:part_id as uuid) is null)
           -- A lease that ends later than any can was given before the database's clock went back.
           and (part.locked_until is null or part.locked_until <= clock_timestamp()
                or part.locked_until > clock_timestamp() + make_interval(secs => 3600))
         -- Who was looked at longest ago, or never: with more parts than a round takes, none waits for another's finality.
         order by part.state = 'held', part.locked_until nulls first, part.id
         limit :parts_max
           for no key update of part skip locked
    )
    update payout_part part
       set fence = part.fence + 1, locked_until = clock_timestamp() + make_interval(secs => :lease_s)
      from picked where part.id = picked.id
    returning part.id, part.fence
""")
_RELEASE = text("""
    update payout_part part set locked_until = clock_timestamp() + make_interval(secs => :pause_s)
      from unnest(cast(:ids as uuid[]), cast(:fences as bigint[])) as claimed (id, fence)
     where part.id = claimed.id and part.fence = claimed.fence
""")
_LOCK = text("""
    select batch_id from payout_part where id = :id and fence = :fence for no key update
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A part that is ours while its fence is."""

    part_id: UUID
    fence: int


async def claim(
    session: AsyncSession, *, parts_max: int, lease_s: float, part_id: UUID | None = None
) -> Sequence[Claim]:
    """Lease up to `parts_max` parts that are to be sent or watched, or `part_id` alone; those of others are passed over."""
    rows = await session.execute(_CLAIM, {"parts_max": parts_max, "lease_s": lease_s, "part_id": part_id})
    return sorted((Claim(part_id=row[0], fence=row[1]) for row in rows), key=lambda one: one.part_id)


async def release(session: AsyncSession, claims: Sequence[Claim], *, pause_s: float = 0.0) -> None:
    """Let anybody claim these again, after `pause_s`; what others have claimed since is left alone."""
    if claims:
        ids, fences = [one.part_id for one in claims], [one.fence for one in claims]
        await session.execute(_RELEASE, {"ids": ids, "fences": fences, "pause_s": pause_s})


async def lock(session: AsyncSession, claim: Claim) -> None:
    """Lock the part's row until the transaction ends. Raises: LeaseLost when it was claimed by another since."""
    if await session.scalar(_LOCK, {"id": claim.part_id, "fence": claim.fence}) is None:
        raise LeaseLost(
            f"part {claim.part_id} was claimed by another since fence {claim.fence}; nothing is written"
        )
