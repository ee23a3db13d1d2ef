"""What the treasury's signer asks of the database before it signs (`solana.signing.Books`)."""

from collections.abc import Sequence, Set
from datetime import timedelta

from sqlalchemy import func, or_, select

from raymart_billing.payouts.models import PartState, PayoutAttempt, PayoutPart
from raymart_core import clock
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.metering.arrival import first_id_of

MARKER_RETENTION = timedelta(days=90)
"""Longer than any copy of the database is kept: one that comes back then finds its parts' markers, and pays nobody twice."""


CLOCK_SKEW_MAX = timedelta(hours=1)


class DatabaseBooks:
    """The parts of this database. Each question is a transaction of its own."""

    def __init__(self, sessions: Sessions, *, retention: timedelta = MARKER_RETENTION) -> None:
        self._sessions = sessions
        self._retention = retention

    async def signed_micro_usdc(self, *, within: timedelta, except_markers: Sequence[str]) -> int:
        """Sum of the parts of which an attempt was recorded lately, each once, without those of `except_markers`."""
        recorded = PayoutAttempt.created_at >= func.clock_timestamp() - within
        # Ids sort by time, so that the days before are not read; the machine's clock may be an hour off.
        first_id = first_id_of(clock.now() - within - CLOCK_SKEW_MAX)
        attempted = (
            select(PayoutAttempt.id)
            .where(PayoutAttempt.part_id == PayoutPart.id, PayoutAttempt.id >= first_id, recorded)
            .exists()
        )
        others = or_(PayoutPart.marker.is_(None), PayoutPart.marker.not_in(list(except_markers)))
        statement = select(func.coalesce(func.sum(PayoutPart.total_micro_usdc), 0)).where(
            attempted,
            others,
            # Its marker was burnt: it pays nobody, and those who were left are counted with its successor.
            PayoutPart.state != PartState.FAILED,
        )
        async with self._sessions() as session:
            # One round trip instead of three: the signer asks one message after the other.
            await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            return int(await session.scalar(statement) or 0)

    async def reclaimable(self, markers: Sequence[str]) -> Set[str]:
        """Those of `markers` whose part has been final for longer than any copy of the database is kept."""
        statement = select(PayoutPart.marker).where(
            PayoutPart.marker.in_(list(markers)),
            PayoutPart.state == PartState.FINALIZED,
            PayoutPart.finalized_at < func.clock_timestamp() - self._retention,
            PayoutPart.marker_reclaimed_at.is_(None),
        )
        async with session_scope(self._sessions) as session:
            return {marker for marker in await session.scalars(statement) if marker is not None}
