"""Ids of a request's usage records, as the SQL function `usage_part_id` makes them (`0051_usage_parts.sql`)."""

import hashlib
from uuid import UUID


def usage_part_id(request_id: UUID, part: int) -> UUID:
    """The id of a request's part, the request's own for the first (0).

    A UUIDv7 of the request's millisecond, so that a part lies in the month of its request; the rest is a digest, so that
    whoever writes the same part writes the same row.
    """
    if part == 0:
        return request_id
    digest = hashlib.sha256(request_id.bytes + part.to_bytes(4, "big")).hexdigest()
    return UUID(hex=f"{request_id.hex[:12]}7{digest[:3]}8{digest[3:6]}{digest[6:18]}")
