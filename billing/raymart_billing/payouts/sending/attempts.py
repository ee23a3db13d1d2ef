"""Rows of attempts: written and committed before a byte leaves, resolved when the chain has said what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.refusals import refused_by
from raymart_billing.payouts.models import Purpose
from raymart_billing.payouts.sending.claims import Claim, lock
from raymart_billing.payouts.sending.decision import Resolution
from raymart_billing.payouts.sending.facts import Part
from raymart_billing.solana.transactions import Limits, Unsigned
from raymart_core.errors import Conflict
from raymart_core.ids import new_id

NOT_ALLOWED_BY = ("ck_payout_not_paused", "ck_payout_of_approved_batch")
"""Constraints that refuse an attempt while payouts are stopped or its batch is on hold."""
ERROR_CHARACTERS_MAX = 500

_INSERT = text("""
    insert into payout_attempt (id, part_id, number, generation, purpose, opens, signature, raw_transaction, version,
                                blockhash, last_valid_block_height, compute_unit_limit, priority_fee_lamports)
    values (:id, :part_id, :number, :generation, :purpose, :opens, :signature, :raw, :version,
            :blockhash, :last_valid_block_height, :compute_unit_limit, :priority_fee_lamports)
""")
_SIGNED = text("""
    update payout_part set state = 'signed', state_reason = null, attempts = attempts + 1, marker = :marker
     where id = :part_id
""")
_OPENING = text("update payout_part set state = 'planned', state_reason = null where id = :part_id")
_SUBMITTED = text("""
    update payout_part part set state = 'submitted'
      from unnest(cast(:ids as uuid[]), cast(:fences as bigint[])) as sent (id, fence)
     where part.id = sent.id and part.fence = sent.fence and part.state = 'signed'
""")
_RESOLVE = text("""
    update payout_attempt set state = :state, error = :error, resolved_at = clock_timestamp()
     where part_id = :part_id and number = :number and state = 'live'
""")
_OPENED = text("""
    select account, count(*) as times from payout_attempt, unnest(opens) as account
     where purpose = 'open' and state = 'landed' and opens && cast(:accounts as varchar[])
     group by account
""")


class NotAllowed(Conflict):
    """Payouts were stopped, or the batch put on hold, before the attempt was committed: nothing was written or sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAttempt:
    """What is written of an attempt."""

    number: int
    purpose: Purpose
    opens: Sequence[str]
    """Token accounts that it opens."""
    signature: str
    raw: bytes
    unsigned: Unsigned
    blockhash: str
    last_valid_block_height: int
    limits: Limits


async def write(session: AsyncSession, part: Part, attempts: Sequence[SignedAttempt], *, marker: str) -> None:
    """Write `attempts` of `part`, if its batch may still be sent and nothing is paused.

    The database asks both again within this transaction, under locks that a stop or a hold waits for: what commits
    after them was refused. Locks the part, then the batch. Raises: NotAllowed, LeaseLost.
    """
    try:
        await lock(session, part.claim)
        for attempt in attempts:
            await session.execute(_INSERT, _row(part, attempt))
            opens = attempt.purpose is Purpose.OPEN
            await session.execute(_OPENING if opens else _SIGNED, {"part_id": part.id, "marker": marker})
    except DBAPIError as error:
        if any(refused_by(constraint, error.orig) for constraint in NOT_ALLOWED_BY):
            raise NotAllowed(
                f"part {part.id} is not signed: payouts were stopped or its batch is on hold"
            ) from error
        raise


async def mark_submitted(session: AsyncSession, sent: Sequence[Claim]) -> None:
    """Note of these parts that the endpoints were given their newest attempt."""
    if sent:
        ids, fences = [one.part_id for one in sent], [one.fence for one in sent]
        await session.execute(_SUBMITTED, {"ids": ids, "fences": fences})


async def resolve(session: AsyncSession, part: Part, resolutions: Sequence[Resolution]) -> None:
    """Write what became of attempts. The caller holds the part's lock."""
    for one in resolutions:
        error = None if one.error is None else one.error.text[:ERROR_CHARACTERS_MAX]
        await session.execute(
            _RESOLVE,
            {"part_id": part.id, "number": one.number, "state": one.state.value, "error": error},
        )


async def times_opened(session: AsyncSession, accounts: Sequence[str]) -> dict[str, int]:
    """How often we paid for each of these token accounts, in any part; those we never did are left out."""
    rows = await session.execute(_OPENED, {"accounts": list(accounts)})
    wanted = set(accounts)
    return {row.account: row.times for row in rows if row.account in wanted}


def _row(part: Part, attempt: SignedAttempt) -> dict[str, object]:
    return {
        "id": new_id(),
        "part_id": part.id,
        "number": attempt.number,
        "generation": part.generation,
        "purpose": attempt.purpose.value,
        "opens": list(attempt.opens),
        "signature": attempt.signature,
        "raw": attempt.raw,
        "version": attempt.unsigned.version,
        "blockhash": attempt.blockhash,
        "last_valid_block_height": attempt.last_valid_block_height,
        "compute_unit_limit": attempt.limits.compute_units,
        "priority_fee_lamports": attempt.limits.priority_fee_lamports,
    }
