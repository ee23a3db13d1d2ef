"""Finished requests into their three tables, by COPY in one transaction."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from raymart_billing.connections import Connection
from raymart_billing.records.codec import storable
from raymart_billing.records.copy_format import (
    CopiedTable,
    Row,
    bigint_field,
    boolean_field,
    integer_field,
    text_field,
    time_field,
    uuid_field,
)
from raymart_core.ports import FinishedRequest

REQUEST = CopiedTable(
    "request",
    id=uuid_field,
    created_at=time_field,
    organization_id=uuid_field,
    project_id=uuid_field,
    api_key_id=uuid_field,
    user_id=uuid_field,
    surface=text_field,
    model_asked=text_field,
    model_served=text_field,
    state=text_field,
    finish_reason=text_field,
    error_code=text_field,
    streamed=boolean_field,
    first_token_ms=integer_field,
    duration_ms=integer_field,
)
ATTEMPT = CopiedTable(
    "attempt",
    id=uuid_field,
    created_at=time_field,
    request_id=uuid_field,
    position=integer_field,
    endpoint_id=uuid_field,
    provider_id=uuid_field,
    node_id=uuid_field,
    outcome=text_field,
    fault=text_field,
    reason=text_field,
    tokens_delivered=integer_field,
    first_token_ms=integer_field,
    duration_ms=integer_field,
)
USAGE_RECORD = CopiedTable(
    "usage_record",
    id=uuid_field,
    organization_id=uuid_field,
    project_id=uuid_field,
    api_key_id=uuid_field,
    provider_id=uuid_field,
    endpoint_id=uuid_field,
    offer_id=uuid_field,
    revision_id=uuid_field,
    tokens_prompt=bigint_field,
    tokens_completion=bigint_field,
    tokens_cached=bigint_field,
    image_pixel_steps=bigint_field,
    gpu_ms=bigint_field,
    requests_priced=bigint_field,
    price_prompt_nano_usd=bigint_field,
    price_completion_nano_usd=bigint_field,
    price_cached_nano_usd=bigint_field,
    price_megapixel_step_nano_usd=bigint_field,
    price_gpu_second_nano_usd=bigint_field,
    price_request_nano_usd=bigint_field,
    customer_nano_usd=bigint_field,
    provider_nano_usd=bigint_field,
    fee_nano_usd=bigint_field,
    exact=boolean_field,
    lease_id=uuid_field,
)
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


async def _copy(connection: Connection, table: CopiedTable, rows: Sequence[Row]) -> None:
    if not rows:
        return
    content = table.encoded(
        rows
    )  # Before the COPY begins: a row that cannot be encoded leaves the connection be.
    async with connection.cursor() as cursor, cursor.copy(table.statement) as copy:
        await copy.write(content)


def request_row(request: FinishedRequest) -> Row:
    """Values of `REQUEST`, in the order of its columns."""
    return (
        request.id, request.created_at, request.organization_id, request.project_id, request.api_key_id,
        request.user_id, request.surface, storable(request.model_asked), request.model_served, request.state,
        request.finish_reason and request.finish_reason.value, request.error_code, request.streamed,
        request.first_token_ms, request.duration_ms,
    )  # fmt: skip


def attempt_rows(request: FinishedRequest) -> Iterable[Row]:
    """Values of `ATTEMPT`, for each try."""
    for position, attempt in enumerate(request.attempts):
        yield (
            attempt.id, attempt.started_at, request.id, position, attempt.endpoint_id, attempt.provider_id,
            attempt.node_id, attempt.outcome, attempt.fault.value, storable(attempt.reason), attempt.tokens_delivered,
            attempt.first_token_ms, attempt.duration_ms,
        )  # fmt: skip


def usage_row(request: FinishedRequest) -> Row:
    """Values of `USAGE_RECORD`."""
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
