"""Making statistics from attempts: slots of the last minutes, hours from slots, figures from both. Safe to run twice at once.

A slot is replaced by what its attempts say now, so a run that comes late or twice changes nothing. Attempts that are
recorded more than `SLOTS_BACK` after they began (the spill of a long outage) are not counted; they are billed all the same.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.statistics.histogram import BINS, GROWTH, percentile
from raymart_billing.statistics.models import (
    AttemptCounts,
    AttemptHour,
    AttemptSlot,
    ServiceFigures,
    Span,
)
from raymart_marketplace.catalog.models import ModelRevision
from raymart_marketplace.supply.models import Endpoint

SOURCES: Mapping[Span, tuple[type[AttemptSlot | AttemptHour], str]] = {
    Span.HALF_HOUR: (AttemptSlot, "30 minutes"),
    Span.DAY: (AttemptHour, "24 hours"),
}
"""What the figures of a span are sums of, and how far back it begins."""
SLOTS_BACK = "15 minutes"
"""How far back slots are made anew."""
_REACH = "30 minutes"
"""Requests that arrived so long ago may have attempts in the slots that are made anew."""

_MAKE_SLOTS = text(
    """
    with tried as materialized (
        select endpoint_id, date_bin('5 minutes', created_at, 'epoch') as starts_at, outcome, fault, tokens_delivered,
               case when first_token_ms is not null
                    then least(:bins - 1, floor(ln(greatest(first_token_ms, 1)) / ln(:growth)))::int end as first_bin,
               case when outcome = 'delivered' and tokens_delivered > 1 and duration_ms > first_token_ms
                    then greatest(0, least(:bins - 1, floor(
                             ln((tokens_delivered - 1) * 10000.0 / (duration_ms - first_token_ms)) / ln(:growth))))::int
                    end as rate_bin
          from attempt
         where request_id >= usage_first_id((clock_timestamp() - cast(:reach as interval)) at time zone 'UTC')
           and created_at >= date_bin('5 minutes', clock_timestamp() - cast(:back as interval), 'epoch')
    ),
    first as (
        select endpoint_id, starts_at, jsonb_object_agg(first_bin, number) as bins
          from (select endpoint_id, starts_at, first_bin, count(*) as number from tried
                 where first_bin is not null group by 1, 2, 3) counted
         group by 1, 2
    ),
    rate as (
        select endpoint_id, starts_at, jsonb_object_agg(rate_bin, number) as bins
          from (select endpoint_id, starts_at, rate_bin, count(*) as number from tried
                 where rate_bin is not null group by 1, 2, 3) counted
         group by 1, 2
    ),
    sums as (
        select endpoint_id, starts_at, count(*) as attempts,
               count(*) filter (where outcome = 'delivered') as delivered,
               count(*) filter (where fault = 'provider') as provider_failures,
               sum(tokens_delivered) as tokens
          from tried group by 1, 2
    )
    insert into attempt_slot
           (endpoint_id, starts_at, attempts, delivered, provider_failures, tokens, first_token_bins, rate_bins)
    select endpoint_id, starts_at, attempts, delivered, provider_failures, tokens,
           coalesce(first.bins, '{}'), coalesce(rate.bins, '{}')
      from sums left join first using (endpoint_id, starts_at) left join rate using (endpoint_id, starts_at)
     order by endpoint_id, starts_at
        on conflict (endpoint_id, starts_at) do update
       set (attempts, delivered, provider_failures, tokens, first_token_bins, rate_bins) =
           (excluded.attempts, excluded.delivered, excluded.provider_failures, excluded.tokens,
            excluded.first_token_bins, excluded.rate_bins)
    """
)
_MAKE_HOURS = text(
    """
    with recent as materialized (
        select *, date_bin('1 hour', starts_at, 'epoch') as hour from attempt_slot
         where starts_at >= date_bin('1 hour', clock_timestamp() - interval '1 hour', 'epoch')
    ),
    counted as (
        select endpoint_id, hour, 'first' as kind, key, sum(value::int) as number
          from recent, jsonb_each_text(first_token_bins) group by 1, 2, 3, 4
        union all
        select endpoint_id, hour, 'rate', key, sum(value::int)
          from recent, jsonb_each_text(rate_bins) group by 1, 2, 3, 4
    ),
    merged as (
        select endpoint_id, hour, jsonb_object_agg(key, number) filter (where kind = 'first') as first_bins,
               jsonb_object_agg(key, number) filter (where kind = 'rate') as rate_bins
          from counted group by 1, 2
    ),
    sums as (
        select endpoint_id, hour, sum(attempts) as attempts, sum(delivered) as delivered,
               sum(provider_failures) as provider_failures, sum(tokens) as tokens
          from recent group by 1, 2
    )
    insert into attempt_hour
           (endpoint_id, starts_at, attempts, delivered, provider_failures, tokens, first_token_bins, rate_bins)
    select endpoint_id, hour, attempts, delivered, provider_failures, tokens,
           coalesce(first_bins, '{}'), coalesce(rate_bins, '{}')
      from sums left join merged using (endpoint_id, hour)
     order by endpoint_id, hour
        on conflict (endpoint_id, starts_at) do update
       set (attempts, delivered, provider_failures, tokens, first_token_bins, rate_bins) =
           (excluded.attempts, excluded.delivered, excluded.provider_failures, excluded.tokens,
            excluded.first_token_bins, excluded.rate_bins)
    """
)
_SAMPLE_NODES = text(
    """
    insert into node_presence (node_id, hour, samples, seen)
    select id, date_bin('1 hour', clock_timestamp(), 'epoch'), 1,
           (last_seen_at > clock_timestamp() - cast(:silence as interval))::int
      from node
     where revoked_at is null and last_seen_at is not null
     order by id
        on conflict (node_id, hour) do update
       set samples = node_presence.samples + 1, seen = node_presence.seen + excluded.seen
    """
)
SILENCE = "45 seconds"
"""A machine whose link is up is marked as seen every ten seconds."""
_PRUNE = (
    # An hour is summed until the next one is over; slots stay an hour longer.
    text("delete from attempt_slot where starts_at < clock_timestamp() - interval '4 hours'"),
    text("delete from attempt_hour where starts_at < clock_timestamp() - interval '26 hours'"),
    text("delete from node_presence where hour < clock_timestamp() - interval '90 days'"),
)


async def make_slots(session: AsyncSession) -> None:
    """Make the slots of the last quarter of an hour anew."""
    await session.execute(_MAKE_SLOTS, {"bins": BINS, "growth": GROWTH, "reach": _REACH, "back": SLOTS_BACK})


async def make_hours(session: AsyncSession) -> None:
    """Sum the slots of this hour and the one before anew."""
    await session.execute(_MAKE_HOURS)


async def sample_nodes(session: AsyncSession) -> None:
    """Note which machines are linked at this moment."""
    await session.execute(_SAMPLE_NODES, {"silence": SILENCE})


async def make_figures(session: AsyncSession, span: Span) -> None:
    """Replace the figures of `span` by what the slots say."""
    found = await _summed(session, span)
    # One row after another in one order, so that two runs at once wait and do not deadlock.
    rows = [_row(subject_id, span, sums) for subject_id, sums in sorted(found.items())]
    table = ServiceFigures
    if rows:
        statement = insert(table)
        columns = {name: statement.excluded[name] for name in rows[0] if name not in {"subject_id", "span"}}
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=[table.subject_id, table.span],
                set_=columns | {"computed_at": func.clock_timestamp()},
            ),
            rows,
        )
    # now() is the transaction's start: what is older was not written by this run.
    await session.execute(delete(table).where(table.span == span, table.computed_at < func.now()))


async def prune(session: AsyncSession) -> None:
    """Drop what no figure is made of any more."""
    for statement in _PRUNE:
        await session.execute(statement)


@dataclass(slots=True)
class _Sums:
    attempts: int = 0
    delivered: int = 0
    provider_failures: int = 0
    tokens: int = 0
    first_token: Counter[int] = field(default_factory=Counter)
    rate: Counter[int] = field(default_factory=Counter)

    def add(self, slot: AttemptCounts) -> None:
        self.attempts += slot.attempts
        self.delivered += slot.delivered
        self.provider_failures += slot.provider_failures
        self.tokens += slot.tokens
        self.first_token.update(_bins(slot.first_token_bins))
        self.rate.update(_bins(slot.rate_bins))


async def _summed(session: AsyncSession, span: Span) -> Mapping[UUID, _Sums]:
    """Sums by endpoint, and by the model that it serves."""
    table, length = SOURCES[span]
    statement = (
        select(table, ModelRevision.model_id)
        .outerjoin(Endpoint, Endpoint.id == table.endpoint_id)
        .outerjoin(ModelRevision, ModelRevision.id == Endpoint.revision_id)
        .where(table.starts_at >= func.clock_timestamp() - text(f"interval '{length}'"))
        .execution_options(yield_per=1_000)
    )
    found: dict[UUID, _Sums] = defaultdict(_Sums)
    async for row, model_id in await session.stream(statement):
        assert isinstance(row, AttemptCounts)
        found[row.endpoint_id].add(row)
        if model_id is not None:
            found[model_id].add(row)
    return found


def _row(subject_id: UUID, span: Span, sums: _Sums) -> dict[str, object]:
    first_p50, first_p95 = (percentile(sums.first_token, share) for share in (0.5, 0.95))
    # Of a rate the slow end is what matters: what 95 of 100 reach is exceeded by 5 from below.
    rate_p50, rate_p95 = (percentile(sums.rate, share) for share in (0.5, 0.05))
    return {
        "subject_id": subject_id,
        "span": span,
        "attempts": sums.attempts,
        "delivered": sums.delivered,
        "provider_failures": sums.provider_failures,
        "tokens": sums.tokens,
        "first_token_ms_p50": None if first_p50 is None else round(first_p50),
        "first_token_ms_p95": None if first_p95 is None else round(first_p95),
        "tokens_per_s_p50": None if rate_p50 is None else round(rate_p50 / 10, 1),
        "tokens_per_s_p95": None if rate_p95 is None else round(rate_p95 / 10, 1),
    }


def _bins(stored: Mapping[str, int]) -> Mapping[int, int]:
    return {int(number): count for number, count in stored.items()}
