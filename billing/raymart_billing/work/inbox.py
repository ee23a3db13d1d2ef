"""The inbox: a message of someone else takes effect once, however often it is delivered."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_INSERT = text(
    "insert into inbox (source, message_id) values (:source, :message_id) on conflict do nothing returning source"
)


async def first_time(session: AsyncSession, *, source: str, message_id: str) -> bool:
    """Whether this is the first delivery of `source`'s `message_id`; note it in this transaction.

    A second delivery at the same moment waits for the first one's transaction, and is the first if that is rolled back.
    Messages are remembered for 90 days.
    """
    assert source, "a message has a source"
    assert message_id, "a message has an id"
    return await session.scalar(_INSERT, {"source": source, "message_id": message_id}) is not None
