"""Finished requests into their three tables, by COPY in one transaction."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from uuid import UUID

from raymart_billing.connections import Connection
from raymart_billing.records.codec import storable
from raymart_billing.records.copy_format import (
    CopiedTable,
    Row,
    bigint_fields,
    boolean_fields,
    integer_fields,
    text_fields,
    time_fields,
    uuid_fields,
)
from raymart_billing.records.part_ids import usage_part_id
from raymart_core.ports import FinishedRequest, UsageEntry

REQUEST = CopiedTable(
    "request",
    id=uuid_fields,
    created_at=time_fields,
    organization_id=uuid_fields,
    project_id=uuid_fields,
    api_key_id=uuid_fields,
    user_id=uuid_fields,
    surface=text_fields,
    model_asked=text_fields,
    model_served=text_fields,
    state=text_fields,
    finish_reason=text_fields,
    error_code=text_fields,
    streamed=boolean_fields,
    first_token_ms=integer_fields,
    duration_ms=integer_fields,
)
ATTEMPT = CopiedTable(
    "attempt",
    id=uuid_fields,
    created_at=time_fields,
    request_id=uuid_fields,
    position=integer_fields,
    endpoint_id=uuid_fields,
    provider_id=uuid_fields,
    node_id=uuid_fields,
    outcome=text_fields,
    fault=text_fields,
    reason=text_fields,
    tokens_delivered=integer_fields,
    first_token_ms=integer_fields,
    duration_ms=integer_fields,
)
USAGE_RECORD = CopiedTable(
    "usage_record",
    id=uuid_fields,
    organization_id=uuid_fields,
    project_id=uuid_fields,
    api_key_id=uuid_fields,
    provider_id=uuid_fields,
    endpoint_id=uuid_fields,
    offer_id=uuid_fields,
    revision_id=uuid_fields,
    tokens_prompt=bigint_fields,
    tokens_completion=bigint_fields,
    tokens_cached=bigint_fields,
    image_pixel_steps=bigint_fields,
    gpu_ms=bigint_fields,
    requests_priced=bigint_fields,
    price_prompt_nano_usd=bigint_fields,
    price_completion_nano_usd=bigint_fields,
    price_cached_nano_usd=bigint_fields,
    price_megapixel_step_nano_usd=bigint_fields,
    price_gpu_second_nano_usd=bigint_fields,
    price_request_nano_usd=bigint_fields,
    customer_nano_usd=bigint_fields,
    provider_nano_usd=bigint_fields,
    fee_nano_usd=bigint_fields,
    exact=boolean_fields,
    lease_id=uuid_fields,
    continues_id=uuid_fields,
    part=integer_fields,
)
# The range leaves out other months' partitions, which a list of ids alone does not.
_PRESENT = b"select id from request where id = any(%(ids)b) and id between %(first)b and %(last)b"
_FORGET = b"delete from usage_checkpoint where request_id = any(%b)"


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
        attempts = [row for request in fresh for row in attempt_rows(request)]
        aside = await _is_confined(connection)
        await _copy(connection, REQUEST, [request_row(request) for request in fresh], aside=aside)
        await _copy(connection, ATTEMPT, attempts, aside=aside)
        used = [row for request in fresh for row in usage_rows(request)]
        await _copy(connection, USAGE_RECORD, used, aside=aside)
        if forget_checkpoints:
            await connection.execute(_FORGET, ([request.id for request in requests],))


async def _without_present(
    connection: Connection, requests: Sequence[FinishedRequest]
) -> Sequence[FinishedRequest]:
    ids = sorted((request.id for request in requests), key=attrgetter("int"))
    if not ids:
        return requests
    values = {"ids": ids, "first": ids[0], "last": ids[-1]}
    cursor = await connection.execute(_PRESENT, values, binary=True)
    present: set[UUID] = {row[0] for row in await cursor.fetchall()}
    return [request for request in requests if request.id not in present]


async def _copy(connection: Connection, table: CopiedTable, rows: Sequence[Row], *, aside: bool) -> None:
    if not rows:
        return
    if aside:
        await connection.execute(table.prepare)
    statement = table.statement_aside if aside else table.statement
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for part in table.encoded(rows):
            await copy.write(part)
    if aside:
        for finishing in table.finish:
            await connection.execute(finishing)


async def _is_confined(connection: Connection) -> bool:
    """Whether row-level security holds for our role; `bypassrls` of a login exempts it (alembic/README.md)."""
    cursor = await connection.execute("select row_security_active('request')")
    row = await cursor.fetchone()
    assert row is not None
    return bool(row[0])


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


def usage_rows(request: FinishedRequest) -> Iterable[Row]:
    """Values of `USAGE_RECORD`, for each part."""
    for part, usage in enumerate(request.parts):
        yield _usage_row(request, part, usage)


def _usage_row(request: FinishedRequest, part: int, usage: UsageEntry) -> Row:
    used, prices = usage.quantities, usage.prices
    return (
        usage_part_id(request.id, part), request.organization_id, request.project_id, request.api_key_id, usage.provider_id,
        usage.endpoint_id, usage.offer_id, usage.revision_id, used.token_prompt + used.token_cached,
        used.token_completion, used.token_cached, used.image_megapixel_step, used.gpu_second, used.request,
        prices.token_prompt, prices.token_completion, prices.token_cached, prices.image_megapixel_step,
        prices.gpu_second, prices.request, usage.customer_amount.amount, usage.provider_amount.amount,
        usage.fee_amount.amount, usage.exact, request.lease_id, request.id if part else None, part,
    )  # fmt: skip
