"""Reversals: a mistake is undone by the mirror of its transfer, with a reason; the mistake itself stays readable."""

from collections.abc import Sequence
from uuid import UUID

import psycopg
import structlog
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.ledger.models import Transfer
from raymart_billing.ledger.posting import MOVEMENTS_MAX, refusal_of
from raymart_billing.ledger.refusals import refused_by
from raymart_core.errors import Conflict, DomainError, InvalidRequest, NotFound

log = structlog.get_logger()

REASON_CHARACTERS_MAX = 500
REVERSED_BEFORE = "uq_transfer_reverses_id"
NO_MIRROR = "ck_transfer_mirrors_what_it_reverses"

_REVERSE = text("select ledger_reverse(cast(:ids as bigint[]), :reason, cast(:actor as uuid))")


async def reverse(
    session: AsyncSession, transfer_ids: Sequence[int], *, reason: str, actor_id: UUID | None
) -> Sequence[Transfer]:
    """Undo 1 to 1,000 posted transfers by their mirrors, all or none; returns the reversals, in order.

    The parts of one usage can only go back together: each alone would overdraw the clearing account. A repeat by the same
    actor for the same reason returns what was written. Holds are voided instead, and a reversal is not reversed: what
    was right after all is posted anew. Locks the accounts, by id; call it once per transaction.

    Raises: InvalidRequest, NotFound, Conflict (reversed before), InsufficientFunds (the money was spent meanwhile).
    """
    if not 1 <= len(transfer_ids) <= MOVEMENTS_MAX:
        raise InvalidRequest(f"1 to {MOVEMENTS_MAX} transfers are reversed at once, not {len(transfer_ids)}")
    if not 1 <= len(reason.strip()) <= REASON_CHARACTERS_MAX:
        raise InvalidRequest(
            f"a reversal needs a reason of 1 to {REASON_CHARACTERS_MAX} characters", param="reason"
        )
    ids = sorted(set(transfer_ids))
    try:
        await session.execute(_REVERSE, {"ids": ids, "reason": reason.strip(), "actor": actor_id})
    except DBAPIError as error:
        refusal = _refusal(error.orig) or refusal_of(error.orig)
        if refusal is None:
            raise
        raise refusal from error
    reversals = select(Transfer).where(Transfer.reverses_id.in_(ids)).order_by(Transfer.id)
    log.info("transfer.reversed", transfers=ids, actor_id=str(actor_id))
    return (await session.scalars(reversals)).all()


def _refusal(error: BaseException | None) -> DomainError | None:
    if refused_by(REVERSED_BEFORE, error):
        assert isinstance(error, psycopg.Error)
        return Conflict(f"{error.diag.message_primary}; a transfer is reversed once")
    if refused_by(NO_MIRROR, error):
        return InvalidRequest(
            "only posted transfers that are no reversals themselves can be reversed; "
            "void a hold, and post anew what was reversed by mistake"
        )
    if isinstance(error, psycopg.errors.NoDataFound):
        return NotFound(f"{error.diag.message_primary}")
    return None
