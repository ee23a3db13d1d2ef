"""What is asked of workers about planning; the requests need neither the chain's libraries nor the ledger."""

from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.work import outbox

PLAN_TASK: Final = "payouts.plan"
"""Its subject is a `PlanRequest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Plan payouts on demand."""

    created_by: UUID | None
    """Who asks, and so does not approve what comes of it."""
    ends_epoch: bool
    """Whether the running epoch ends now."""

    def subject(self) -> str:
        """As the outbox carries it."""
        return f"{self.created_by or '-'}:{'end' if self.ends_epoch else 'last'}"

    @classmethod
    def of_subject(cls, subject: str) -> Self:
        """The request again."""
        who, _, what = subject.partition(":")
        return cls(created_by=None if who == "-" else UUID(who), ends_epoch=what == "end")


async def request_plan(session: AsyncSession, request: PlanRequest) -> UUID:
    """Ask for it; returns the row of the outbox that tells how it went."""
    return await outbox.enqueue(session, task=PLAN_TASK, subject=request.subject())
