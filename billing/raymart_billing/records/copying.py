"""Finished requests into their three tables, by COPY in one transaction."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from raymart_billing.connections import Connection
from raymart_billing.records.codec import storable
from raymart_core.ports import FinishedRequest

# Columns in the order of the row functions below; what is left out the database fills in.
REQUEST = b"""
    copy request (
        id, created_at, organization_id, project_id, api_key_id, user_id, surface, model_asked, model_served, state,
        finish_reason, error_code, streamed, first_token_ms, duration_ms
    ) from stdin
"""
ATTEMPT = b"""
    copy attempt (
        id, created_at, request_id, position, endpoint_id, provider_id, node_id, outcome, fault, reason,
        tokens_delivered, first_token_ms, duration_ms
    ) from stdin
"""
USAGE_RECORD = b"""
    copy usage_record (
        id, organization_id, project_id, api_key_id, provider_id, endpoint_id, offer_id, revision_id, tokens_prompt,
        tokens_completion, tokens_cached, image_pixel_steps, gpu_ms, requests_priced, price_prompt_nano_usd,
        price_completion_nano_usd, price_cached_nano_usd, price_megapixel_step_nano_usd, price_gpu_second_nano_usd,
        price_request_nano_usd, customer_nano_usd, provider_nano_usd, fee_nano_usd, exact, lease_id
    ) from stdin
"""
_FORGET = b"delete from usage_checkpoint where request_id = any(%s)"


async def copy_requests(
    connection: Connection,
    requests: Sequence[FinishedRequest],
    *,
    may_exist: bool,
    forget_checkpoints: bool = False,
) -> None:
    """Write all of `requests` in one transaction, or none; durable when this returns.

    The request row is written in the same transaction as its attempts and usage, so its presence tells that the rest is
    there. With `may_exist`, requests already present are left as they are: that makes a second try safe after a
    connection was lost during COMMIT. A first try saves the look-up. `forget_checkpoints` deletes the requests'
    checkpoints in the same transaction: from then on what was recorded counts, and not what a crash would have left.
    Raises: psycopg.errors.UniqueViolation when one was there after all.
    """
    async with connection.transaction():
        fresh = await _without_present(connection, requests) if may_exist else requests
        used = [request for request in fresh if request.usage is not None]
        attempts = [row for request in fresh for row in attempt_rows(request)]
        await _copy(connection, REQUEST, [request_row(request) for request in fresh])
        await _copy(connection, ATTEMPT, attempts)
        await _copy(connection, USAGE_RECORD, [usage_row(request) for request in used])
        if forget_checkpoints:
            await connection.execute(_FORGET, ([request.id for request in requests],))


async def _without_present(
    connection: Connection, requests: Sequence[FinishedRequest]
) -> Sequence[FinishedRequest]:
    ids = [request.id for request in requests]
    cursor = await connection.execute("select id from request where id = any(%s)", (ids,))
    present: set[UUID] = {row[0] for row in await cursor.fetchall()}
    return [request for request in requests if request.id not in present]


async def _copy(connection: Connection, statement: bytes, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            await copy.write_row(row)


def request_row(request: FinishedRequest) -> tuple[Any, ...]:
    """Values of `REQUEST`'s columns."""
    return (
        request.id, request.created_at, request.organization_id, request.project_id, request.api_key_id,
        request.user_id, request.surface, storable(request.model_asked), request.model_served, request.state,
        request.finish_reason and request.finish_reason.value, request.error_code, request.streamed,
        request.first_token_ms, request.duration_ms,
    )  # fmt: skip


def attempt_rows(request: FinishedRequest) -> Iterable[tuple[Any, ...]]:
    """Values of `ATTEMPT`'s columns, for each try."""
    for position, attempt in enumerate(request.attempts):
        yield (
            attempt.id, attempt.started_at, request.id, position, attempt.endpoint_id, attempt.provider_id,
            attempt.node_id, attempt.outcome, attempt.fault.value, storable(attempt.reason), attempt.tokens_delivered,
            attempt.first_token_ms, attempt.duration_ms,
        )  # fmt: skip


def usage_row(request: FinishedRequest) -> tuple[Any, ...]:
    """Values of `USAGE_RECORD`'s columns."""
    usage = request.usage
    assert usage is not None
    used, prices = usage.quantities, usage.prices
    return (
        request.id, request.organization_id, request.project_id, request.api_key_id, usage.provider_id,
        usage.endpoint_id, usage.offer_id, usage.revision_id, used.token_prompt + used.token_cached,
        used.token_completion, used.token_cached, used.image_megapixel_step, used.gpu_second, used.request,
        prices.token_prompt, prices.token_completion, prices.token_cached, prices.image_megapixel_step,
        prices.gpu_second, prices.request, usage.customer_amount.amount, usage.provider_amount.amount,
        usage.fee_amount.amount, usage.exact, request.lease_id,
    )  # fmt: skip
