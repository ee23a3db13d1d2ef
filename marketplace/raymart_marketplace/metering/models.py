"""Tables of inference. One request row, its attempts and at most one usage record, written by one COPY at the end.

No foreign keys to hot tables: these rows are written in bulk, and partitioned by the month of the request's UUIDv7 (the
partitions are in the schema `usage_month`; `ensure_usage_partitions` makes them ahead). Each index costs every request:
one is here only for a query that needs it.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_core.ids import new_id
from raymart_core.units import Fault, FinishReason
from raymart_marketplace.db.base import Row, text_enum

BY_MONTH = {"postgresql_partition_by": "RANGE (id)"}


class Surface(StrEnum):
    """Through which API a request came."""

    REST = "rest"
    GRAPHQL = "graphql"


class RequestState(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AttemptOutcome(StrEnum):
    """How a try on one endpoint ended."""

    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Request(Row):
    """One inference request of a customer; `created_at` is its arrival."""

    __tablename__ = "request"
    __table_args__ = (
        Index("ix_request_organization_id_id", "organization_id", "id"),
        # What the rules of refunds look at.
        Index("ix_request_failed", "id", postgresql_where=text("state = 'failed'")),
        BY_MONTH,
    )

    organization_id: Mapped[UUID]
    project_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    user_id: Mapped[UUID | None]
    surface: Mapped[Surface] = mapped_column(text_enum(Surface))
    model_asked: Mapped[str]
    model_served: Mapped[str]
    state: Mapped[RequestState] = mapped_column(text_enum(RequestState))
    finish_reason: Mapped[FinishReason | None] = mapped_column(text_enum(FinishReason))
    error_code: Mapped[str | None]
    streamed: Mapped[bool]
    first_token_ms: Mapped[int | None]
    duration_ms: Mapped[int]


class Attempt(Row):
    """One try of a request on one endpoint; `created_at` is its start. In the month of its request, found by it alone."""

    __tablename__ = "attempt"
    __table_args__ = (
        # What a provider looks at: its own attempts, newest first.
        Index("ix_attempt_provider_id_id", "provider_id", "id"),
        {"postgresql_partition_by": "RANGE (request_id)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=False, default=new_id, sort_order=-2)
    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """0 for the first try."""
    endpoint_id: Mapped[UUID]
    provider_id: Mapped[UUID]
    node_id: Mapped[UUID]
    outcome: Mapped[AttemptOutcome] = mapped_column(text_enum(AttemptOutcome))
    fault: Mapped[Fault] = mapped_column(text_enum(Fault))
    reason: Mapped[str]
    tokens_delivered: Mapped[int]
    first_token_ms: Mapped[int | None]
    duration_ms: Mapped[int]


class UsageRecord(Row):
    """What a request is billed for what one endpoint delivered of it.

    `id` is the request's id: one record a request, by the primary key. Where other endpoints went on, each has a record
    too, with an id that follows from the request's and its number (`usage_part_id`).
    """

    __tablename__ = "usage_record"
    __table_args__ = (
        CheckConstraint("tokens_prompt >= 0 and tokens_completion >= 0", name="tokens_not_negative"),
        CheckConstraint("tokens_cached between 0 and tokens_prompt", name="cached_is_part_of_prompt"),
        CheckConstraint(
            "image_pixel_steps >= 0 and gpu_ms >= 0 and requests_priced in (0, 1)", name="quantities_in_range"
        ),
        CheckConstraint(
            "price_prompt_nano_usd >= 0 and price_completion_nano_usd >= 0 and price_cached_nano_usd >= 0"
            " and price_megapixel_step_nano_usd >= 0 and price_gpu_second_nano_usd >= 0"
            " and price_request_nano_usd >= 0",
            name="prices_not_negative",
        ),
        # Each unit's amount is rounded down to a whole nano-USD, in the customer's favour, as `billing.rating` does.
        CheckConstraint(
            "customer_nano_usd = (tokens_prompt - tokens_cached) * price_prompt_nano_usd"
            " + tokens_cached * price_cached_nano_usd"
            " + tokens_completion * price_completion_nano_usd"
            " + image_pixel_steps * price_megapixel_step_nano_usd / 1000000"
            " + gpu_ms * price_gpu_second_nano_usd / 1000"
            " + requests_priced * price_request_nano_usd",
            name="amount_is_usage_times_price",
        ),
        CheckConstraint("customer_nano_usd = provider_nano_usd + fee_nano_usd", name="split_adds_up"),
        CheckConstraint("provider_nano_usd >= 0 and fee_nano_usd >= 0", name="split_not_negative"),
        Index("ix_usage_record_organization_id_id", "organization_id", "id"),
        CheckConstraint(
            "part between 0 and 31 and (part = 0) = (continues_id is null)", name="part_of_a_request"
        ),
        CheckConstraint(
            "part = 0 or (tokens_prompt = 0 and requests_priced = 0)", name="prompt_is_paid_once"
        ),
        Index(
            "ix_usage_record_continues_id", "continues_id", postgresql_where=text("continues_id is not null")
        ),
        Index("ix_usage_record_unposted", "id", postgresql_where=text("posted_at is null")),
        BY_MONTH,
    )

    organization_id: Mapped[UUID]
    project_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    provider_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    offer_id: Mapped[UUID]
    revision_id: Mapped[UUID]
    tokens_prompt: Mapped[int] = mapped_column(BigInteger)
    """All of the prompt's, cached ones included."""
    tokens_completion: Mapped[int] = mapped_column(BigInteger)
    tokens_cached: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Those of the prompt that the engine had in its cache; billed at the cached price."""
    image_pixel_steps: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """A million of them are one `image.megapixel_step`."""
    gpu_ms: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """A thousand of them are one `gpu.second`."""
    requests_priced: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """1, or 0 in rows from before requests had a price."""
    price_prompt_nano_usd: Mapped[int] = mapped_column(BigInteger)
    price_completion_nano_usd: Mapped[int] = mapped_column(BigInteger)
    price_cached_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    price_megapixel_step_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    price_gpu_second_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    price_request_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    customer_nano_usd: Mapped[int] = mapped_column(BigInteger)
    provider_nano_usd: Mapped[int] = mapped_column(BigInteger)
    fee_nano_usd: Mapped[int] = mapped_column(BigInteger)
    exact: Mapped[bool]
    lease_id: Mapped[UUID | None]
    """The credit lease that pays."""
    posted_at: Mapped[datetime | None]
    """When the ledger took it; set by the poster in the transaction of its transfers."""
    continues_id: Mapped[UUID | None]
    """The request, in a later part; None in the first, whose own id it is."""
    part: Mapped[int] = mapped_column(server_default=text("0"))
    """0 for the first, which pays the prompt and the request; later ones pay their completion tokens."""

    @property
    def request_id(self) -> UUID:
        """The request that it is a part of."""
        return self.continues_id or self.id
