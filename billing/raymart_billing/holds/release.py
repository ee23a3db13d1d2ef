"""Giving holds back."""

from collections.abc import Sequence
from uuid import UUID

from raymart_billing.connections import Connection, scalar


def hold_key(request_id: UUID) -> str:
    """Idempotency key of a request's hold; the SQL of `ledger_capture_usage` builds the same."""
    return f"hold:{request_id}"


async def release_holds(connection: Connection, request_ids: Sequence[UUID]) -> int:
    """Void those of the requests' holds that are open, in one statement; returns how many. Idempotent.

    Locks the accounts of the holds in id order.
    """
    keys = [hold_key(request_id) for request_id in request_ids]
    released: int = await scalar(
        connection, b"select ledger_void_holds(%(keys)s, 'hold_released')", {"keys": keys}
    )
    return released
