"""The statement of one account: what was posted, newest first, each line with the balance after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from raymart_billing.ledger.models import LedgerAccount, Transfer, TransferCode, TransferState
from raymart_core.money import Asset, Money

STATEMENT_LINES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One posted transfer as its account sees it: `change` is positive for money that came in."""

    transfer_id: int
    key: str
    code: TransferCode
    counter_account_id: int
    actor_id: UUID | None
    change: Money
    balance: Money
    """Of the account, after this transfer."""
    created_at: datetime


async def statement(
    session: AsyncSession,
    account_id: int,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int = 50,
    from_the_oldest: bool = False,
) -> Sequence[StatementLine]:
    """Up to `limit` lines of `account_id` with transfer ids under `before` and over `after`, newest first.

    `limit` is at most 101: a page, and the line that tells of the next. `from_the_oldest` begins at the other end.

    Counts back from the account's balance in one statement, so that lines and balance are of the same moment. The cost
    of a page grows with the number of newer lines. Holds are not lines: they move nothing until they are posted.
    """
    assert 0 < limit <= STATEMENT_LINES_MAX + 1, f"statement of {limit} lines"
    # Two branches, each in the order of an index: PostgreSQL merges them and stops at the page's last line.
    movements = union_all(
        _side(account_id, of=Transfer.credit_account_id, counter=Transfer.debit_account_id, sign=1),
        _side(account_id, of=Transfer.debit_account_id, counter=Transfer.credit_account_id, sign=-1),
    ).subquery()
    newer = func.sum(movements.c.change).over(order_by=movements.c.id.desc(), rows=(None, -1))
    lines = select(movements, func.coalesce(newer, 0).label("newer")).subquery()
    # As scalar subqueries: a join would hide the order of the branches from the planner.
    account = select(LedgerAccount).where(LedgerAccount.id == account_id)
    now = account.with_only_columns(LedgerAccount.credits_posted - LedgerAccount.debits_posted)
    page = (
        select(
            lines,
            (now.scalar_subquery() - lines.c.newer).label("balance"),
            account.with_only_columns(LedgerAccount.asset).scalar_subquery().label("asset"),
        )
        .order_by(lines.c.id.asc() if from_the_oldest else lines.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        page = page.where(lines.c.id < before)
    if after is not None:
        page = page.where(lines.c.id > after)
    return [
        StatementLine(
            transfer_id=row.id,
            key=row.key,
            code=row.code,
            counter_account_id=row.counter_account_id,
            actor_id=row.actor_id,
            change=Money(int(row.change), Asset(row.asset)),
            balance=Money(int(row.balance), Asset(row.asset)),
            created_at=row.created_at,
        )
        for row in await session.execute(page)
    ]


def _side(
    account_id: int, *, of: InstrumentedAttribute[int], counter: InstrumentedAttribute[int], sign: int
) -> Select[int, str, TransferCode, int, UUID | None, int, datetime]:
    return select(
        Transfer.id,
        Transfer.key,
        Transfer.code,
        counter.label("counter_account_id"),
        Transfer.actor_id,
        (Transfer.amount * sign).label("change"),
        Transfer.created_at,
    ).where(of == account_id, Transfer.state == TransferState.POSTED)
