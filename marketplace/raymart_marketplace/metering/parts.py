"""The usage records of a request: one for each endpoint that delivered a part of it."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_

from raymart_marketplace.metering.models import UsageRecord

_RANDOM_BITS = (1 << 80) - 1


def of_requests(request_ids: Collection[UUID]) -> ColumnElement[bool]:
    """What the usage records of these requests (at least one) have in common; order them by `part`."""
    # A part's id has the millisecond of its request, the first 48 bits: the range leaves out other months' partitions.
    low = UUID(int=min(request_ids).int & ~_RANDOM_BITS)
    high = UUID(int=max(request_ids).int | _RANDOM_BITS)
    named = or_(UsageRecord.id.in_(request_ids), UsageRecord.continues_id.in_(request_ids))
    return and_(UsageRecord.id.between(low, high), named)
