"""When a row of metering was made, by its id: ids are UUIDv7, so a range of time is a range of ids and of partitions."""

from datetime import UTC, datetime
from uuid import UUID


def first_id_of(moment: datetime) -> UUID:
    """The least id of the millisecond of `moment` (aware). Source: RFC 9562, version 7; `usage_first_id` in SQL."""
    milliseconds = int(moment.timestamp() * 1000)
    # A moment before 1970 or after 10889 has no id: the ends of the range stand for it.
    bounded = min(max(milliseconds, 0), (1 << 48) - 1)
    return UUID(int=(bounded << 80) | (0x7 << 76) | (0x2 << 62))


def arrival_of(item_id: UUID) -> datetime:
    """When the row of this UUIDv7 was made, to the millisecond; `usage_arrival` in SQL."""
    return datetime.fromtimestamp((item_id.int >> 80) / 1000, UTC)
