"""Refunds by rule in the background: once a minute the requests that broke off and were billed are looked for.

The requests themselves are the list of what is to do, so nothing has to be asked for: a run that dies is repeated by
the next one.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from raymart_billing.refunds.service import RULE_BATCH_MAX, broken_requests, refund_by_rule
from raymart_billing.work import Context, Periodic
from raymart_core.errors import DomainError, RaymartError
from raymart_marketplace.db.session import Sessions, session_scope

log = structlog.get_logger()

LOOKED_BACK = timedelta(days=7)
"""How long after a request its usage may reach the ledger and still be refunded without an administrator."""


class RefundsRefused(RaymartError):
    """Some requests could not be refunded; the others were."""


async def refund_broken(sessions: Sessions, *, looked_back: timedelta = LOOKED_BACK) -> int:
    """Refund what the rules cover, a transaction each; returns how many were. Any number of runs may overlap.

    Raises: RefundsRefused after the last one, naming the first that the ledger refused.
    """
    refunded, after, refused = 0, UUID(int=0), list[str]()
    while True:
        async with session_scope(sessions) as session:
            found = await broken_requests(session, looked_back=looked_back, after=after)
        for broken in found:
            try:
                async with session_scope(sessions) as session:
                    refunded += bool(await refund_by_rule(session, broken))
            except DomainError as error:
                refused.append(f"{broken.request_id}: {error.message}")
        if len(found) < RULE_BATCH_MAX:
            break
        after = found[-1].request_id
    if refunded:
        log.info("refund.rules_ran", refunded=refunded)
    if refused:
        raise RefundsRefused(f"{len(refused)} requests could not be refunded; the first is {refused[0]}")
    return refunded


async def _refund_broken(context: Context) -> None:
    await refund_broken(context.sessions)


PERIODICS: Sequence[Periodic] = (
    Periodic(name="refunds.by_rule", handle=_refund_broken, every_s=60.0, timeout_s=240.0),
)
