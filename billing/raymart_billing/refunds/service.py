"""Refunds. Takes a session, never commits.

All of them are written by the SQL function `refund_post`: it locks the usage record, then the accounts in id order,
and writes the refund and its transfers in one go. A request that several providers delivered has a usage record for each
part, and each of its refunds is of one part, so that it is known whose earning it concerns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.refusals import AMOUNT_MAX
from raymart_billing.refunds.models import Bearer, Refund, RefundKind
from raymart_billing.refunds.refusals import in_words
from raymart_billing.refunds.rules import RULES, RULES_VERSION
from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import new_id
from raymart_core.money import Asset, Money
from raymart_core.units import Fault
from raymart_marketplace.metering.models import UsageRecord
from raymart_marketplace.metering.parts import of_requests

log = structlog.get_logger()

KEY_CHARACTERS_MAX = 128
REASON_CHARACTERS_MAX = 500
RULE_BATCH_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A request that failed after it had delivered something, was billed, and has no refund by rule yet."""

    request_id: UUID
    fault: Fault


async def refund_request(
    session: AsyncSession,
    *,
    request_id: UUID,
    amount: Money | None,
    bearer: Bearer,
    reason: str,
    key: str,
    actor_id: UUID | None,
) -> Sequence[Refund]:
    """Give `amount` of a request's charge back, or all that is left of it; a repeat with `key` returns the first refunds.

    One refund for each part that is concerned: where not all is given back, the last part comes first, since the end of
    an answer is what its customer lacks.
    Raises: InvalidRequest, NotFound (never billed, or not yet), Conflict (more than is left; the key was used for
    another refund; nothing is left).
    """
    reason = _checked(amount, reason, key)
    parts = await _billed_parts(session, request_id)
    if not parts:
        raise NotFound("no such request was billed; nothing can be refunded", param="request_id")
    refunds = []
    for part, part_amount in await _shares(session, parts, amount, key=key):
        refund = await _post(
            session,
            key=_key("admin", key, part),
            kind=RefundKind.ADMIN,
            organization_id=part.organization_id,
            request_id=request_id,
            part=part.part,
            amount=part_amount,
            bearer=bearer,
            reason=reason,
            actor_id=actor_id,
        )
        if refund is not None:
            refunds.append(refund)
    if not refunds:
        raise Conflict("all of the request's charge was refunded before", param="request_id")
    return refunds


async def refund_by_rule(session: AsyncSession, broken: Broken) -> Sequence[Refund]:
    """Refund each part of a broken request as the rules say, once; none when they say nothing, or nothing is left."""
    rule = RULES.get(broken.fault)
    if rule is None:
        return ()
    refunds = []
    for part in await _billed_parts(session, broken.request_id):
        key = _key("rule", str(broken.request_id), part)
        amount = min(rule.amount(Money(part.customer_nano_usd)), await _left(session, part))
        # Looked up after `_left`: whoever sees what another run left sees its refund.
        if (given := await session.scalar(select(Refund).where(Refund.key == key))) is not None:
            refunds.append(given)
            continue
        refund = await _post(
            session,
            key=key,
            kind=RefundKind.RULE,
            organization_id=part.organization_id,
            request_id=broken.request_id,
            part=part.part,
            # What an administrator gives back meanwhile is not given twice: the rule then takes what is left.
            amount=amount or None,
            bearer=rule.bearer,
            rule=rule.name,
            reason=rule.reason,
            actor_id=None,
        )
        if refund is not None:
            refunds.append(refund)
    return refunds


async def refund_credit_note(
    session: AsyncSession,
    *,
    credit_note_id: UUID,
    organization_id: UUID,
    amount: Money,
    reason: str,
    actor_id: UUID | None,
) -> Refund:
    """Pay an issued credit note into the customer's balance, once; the platform bears it."""
    refund = await _post(
        session,
        key=f"credit_note:{credit_note_id}",
        kind=RefundKind.CREDIT_NOTE,
        organization_id=organization_id,
        credit_note_id=credit_note_id,
        amount=amount,
        bearer=Bearer.PLATFORM,
        reason=reason,
        actor_id=actor_id,
    )
    assert refund is not None, "a credit note is more than zero"
    return refund


async def broken_requests(
    session: AsyncSession, *, looked_back: timedelta, after: UUID | None = None, limit: int = RULE_BATCH_MAX
) -> Sequence[Broken]:
    """Failed and billed requests of the time `looked_back` that a rule covers and that have no refund by rule yet.

    By id, after `after`.
    """
    rows = await session.execute(
        _BROKEN,
        {
            "back": looked_back,
            "after": after or UUID(int=0),
            "faults": [fault.value for fault in RULES],
            "limit": limit,
        },
    )
    return [Broken(request_id=row.id, fault=Fault(row.fault)) for row in rows]


async def _billed_parts(session: AsyncSession, request_id: UUID) -> Sequence[UsageRecord]:
    """The request's usage in order; none before the ledger has taken it, which it does of all parts at once."""
    statement = select(UsageRecord).where(of_requests((request_id,)), UsageRecord.posted_at.is_not(None))
    return (await session.scalars(statement.order_by(UsageRecord.part))).all()


async def _shares(
    session: AsyncSession, parts: Sequence[UsageRecord], amount: Money | None, *, key: str
) -> Sequence[tuple[UsageRecord, Money | None]]:
    """What each part gives back of `amount`; of a repeat, what it gave. Raises: Conflict."""
    if amount is None or len(parts) == 1:
        return [(part, amount) for part in parts]
    left = {part.part: await _left(session, part) for part in parts}
    # Looked up after `left`: whoever sees what a refund left sees the refund.
    keys = {_key("admin", key, part): part for part in parts}
    given = (await session.scalars(select(Refund).where(Refund.key.in_(keys)))).all()
    if given:
        if sum(refund.amount_nano_usd for refund in given) != amount.amount:
            raise Conflict(f"key {key!r} was used before, for another refund", param="idempotency_key")
        return [(keys[refund.key], Money(refund.amount_nano_usd)) for refund in given]
    shares = []
    rest = amount
    for part in reversed(parts):
        if share := min(rest, left[part.part]):
            shares.append((part, share))
            rest -= share
    if rest:
        raise Conflict(f"a refund of {amount} exceeds what is left of the request's charge, {amount - rest}")
    return shares


async def _left(session: AsyncSession, part: UsageRecord) -> Money:
    values = {"request": part.request_id, "part": part.part}
    return Money(int(await session.scalar(text("select refund_left(:request, :part)"), values) or 0))


def _key(kind: str, name: str, part: UsageRecord) -> str:
    return f"{kind}:{name}:{part.part}" if part.part else f"{kind}:{name}"


async def _post(
    session: AsyncSession,
    *,
    key: str,
    kind: RefundKind,
    organization_id: UUID,
    amount: Money | None,
    bearer: Bearer,
    reason: str,
    actor_id: UUID | None,
    request_id: UUID | None = None,
    part: int = 0,
    credit_note_id: UUID | None = None,
    rule: str | None = None,
) -> Refund | None:
    refund_id = new_id()
    async with in_words():
        posted = await session.scalar(
            _POST,
            {
                "id": refund_id,
                "key": key,
                "kind": kind.value,
                "organization": organization_id,
                "request": request_id,
                "credit_note": credit_note_id,
                "amount": None if amount is None else amount.amount,
                "bearer": bearer.value,
                "rule": rule,
                "rule_version": None if rule is None else RULES_VERSION,
                "reason": reason,
                "currency": (amount.asset if amount else Asset.USD).value,
                "actor": actor_id,
                "part": part,
            },
        )
    if posted is None:
        return None
    refund = await session.get_one(Refund, posted)
    if posted == refund_id:
        log.info(
            "refund.posted",
            refund_id=str(refund_id),
            kind=kind.value,
            amount_nano_usd=refund.amount_nano_usd,
            clawback_nano_usd=refund.clawback_nano_usd,
            expense_nano_usd=refund.expense_nano_usd,
            actor_id=str(actor_id),
        )
    return refund


def _checked(amount: Money | None, reason: str, key: str) -> str:
    """The reason without surplus blanks. Raises: InvalidRequest."""
    if amount is not None and (amount.asset is not Asset.USD or not 0 < amount.amount <= AMOUNT_MAX):
        raise InvalidRequest(
            f"{amount} cannot be refunded; give more than 0 and at most {Money(AMOUNT_MAX)}", param="amount"
        )
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise InvalidRequest(
            f"idempotency key of {len(key)} characters; give 1 to {KEY_CHARACTERS_MAX}",
            param="idempotency_key",
        )
    plain = " ".join(reason.split())
    if not 1 <= len(plain) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reason of {len(plain)} characters; say why in 1 to {REASON_CHARACTERS_MAX}", param="reason"
        )
    return plain


_POST = text(
    "select (refund_post(:id, :key, :kind, :organization, cast(:request as uuid), cast(:credit_note as uuid),"
    " cast(:amount as bigint), :bearer, cast(:rule as text), cast(:rule_version as integer), :reason, :currency,"
    " cast(:actor as uuid), :part)).id"
)
# The last attempt of the provider that was billed is the one that broke: those before it delivered nothing.
_BROKEN = text(
    """
    select r.id, a.fault
      from request r
      join usage_record u on u.id = r.id and u.posted_at is not null and u.customer_nano_usd > 0
      join lateral (
        select fault from attempt where request_id = r.id order by position desc limit 1
      ) a on a.fault = any(cast(:faults as text[]))
     where r.state = 'failed' and r.id > :after
       and r.id >= usage_first_id((clock_timestamp() - cast(:back as interval)) at time zone 'UTC')
       and not exists (select from refund f where f.request_id = r.id and f.kind = 'rule')
     order by r.id
     limit :limit
    """
)
