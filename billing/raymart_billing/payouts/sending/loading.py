"""Reading claimed parts: their batch, payees and live attempts, three statements for any number of parts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.models import BatchKind, PartState, Purpose
from raymart_billing.payouts.sending.claims import Claim
from raymart_billing.payouts.sending.facts import Attempt, Part, Payee
from raymart_billing.payouts.sending.rules import SendingRules

_PARTS = text("""
    select part.id, part.fence, part.batch_id, batch.number, batch.kind, part.generation, part.state,
           part.state_reason, part.attempts - part.attempts_released as attempts, made.openings, made.number_next,
           made.resolved,
           batch.state in ('approved', 'sending')
               and not exists (select from payout_switch where resumed_at is null) as may_sign,
           batch.created_at < clock_timestamp() - make_interval(secs => :oldest_s) as is_too_old
      from unnest(cast(:ids as uuid[]), cast(:fences as bigint[])) as claimed (id, fence)
      join payout_part part on part.id = claimed.id and part.fence = claimed.fence
      join payout_batch batch on batch.id = part.batch_id
     cross join lateral (
        select count(*) filter (where purpose = 'open') as openings, coalesce(max(a.number), 0) + 1 as number_next,
               coalesce(array_agg(signature order by a.number) filter (
                   where purpose <> 'open' and a.state <> 'live' and a.generation = part.generation
               ), '{}') as resolved
          from payout_attempt a where a.part_id = part.id
     ) made
     order by part.id
""")
_PAYEES = text("""
    select part_id, id, wallet, token_account, amount_micro_usdc, state = 'quarantined' as is_quarantined
      from payout_item where part_id = any(:ids) and state in ('planned', 'quarantined')
     order by part_id, position
""")
_LIVE = text("""
    select part_id, number, purpose, signature, raw_transaction, last_valid_block_height, priority_fee_lamports
      from payout_attempt where part_id = any(:ids) and state = 'live' order by part_id, number
""")


async def load(session: AsyncSession, claims: Sequence[Claim], rules: SendingRules) -> Sequence[Part]:
    """The parts of `claims` that are still ours."""
    ids = [one.part_id for one in claims]
    oldest = rules.marker_retention - rules.retention_margin
    parts = await session.execute(
        _PARTS, {"ids": ids, "fences": [one.fence for one in claims], "oldest_s": oldest.total_seconds()}
    )
    payees = _by_part(await _all(session, _PAYEES, ids))
    live = _by_part(await _all(session, _LIVE, ids))
    return [_part(row, payees[row.id], live[row.id]) for row in parts]


async def _all(session: AsyncSession, statement: Any, ids: Sequence[UUID]) -> Sequence[Row[Any]]:  # noqa: ANN401 - a text clause
    return (await session.execute(statement, {"ids": list(ids)})).all()


def _by_part(rows: Sequence[Row[Any]]) -> Mapping[UUID, Sequence[Row[Any]]]:
    grouped: defaultdict[UUID, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        grouped[row.part_id].append(row)
    return grouped


def _part(row: Row[Any], payees: Sequence[Row[Any]], live: Sequence[Row[Any]]) -> Part:
    return Part(
        id=row.id,
        batch_id=row.batch_id,
        batch_number=row.number,
        kind=BatchKind(row.kind),
        fence=row.fence,
        generation=row.generation,
        state=PartState(row.state),
        reason=row.state_reason,
        attempts=row.attempts,
        openings=row.openings,
        number_next=row.number_next,
        resolved=row.resolved,
        may_sign=row.may_sign,
        is_too_old=row.is_too_old,
        payees=[
            Payee(
                item_id=payee.id,
                wallet=payee.wallet,
                token_account=payee.token_account,
                amount_micro_usdc=payee.amount_micro_usdc,
                is_quarantined=payee.is_quarantined,
            )
            for payee in payees
        ],
        live=[
            Attempt(
                number=attempt.number,
                purpose=Purpose(attempt.purpose),
                signature=attempt.signature,
                raw=bytes(attempt.raw_transaction),
                last_valid_block_height=attempt.last_valid_block_height,
                priority_fee_lamports=attempt.priority_fee_lamports,
            )
            for attempt in live
        ],
    )
