"""The table of refunds. Written by the SQL function `refund_post` (migration 0008) and by nothing else."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row, text_enum


class RefundKind(StrEnum):
    """Who decided on a refund."""

    RULE = "rule"
    """A rule on the fault that ended the request (`rules.py`); once a part of a request."""
    ADMIN = "admin"
    """An administrator, with a reason."""
    CREDIT_NOTE = "credit_note"
    """A credit note on an invoice."""


class Bearer(StrEnum):
    """Who bears a refund."""

    PROVIDER = "provider"
    """Its part is taken back from what it has earned and was not paid, never below zero; the platform bears the rest."""
    PLATFORM = "platform"
    """The provider keeps what it earned."""


class Refund(Row):
    """Money given back to a customer. Never changes; a refund of a request is at most what is left of its charge."""

    __tablename__ = "refund"
    __table_args__ = (
        CheckConstraint("amount_nano_usd > 0", name="amount_positive"),
        CheckConstraint(
            "clawback_nano_usd >= 0 and fee_nano_usd >= 0 and expense_nano_usd >= 0"
            " and amount_nano_usd = clawback_nano_usd + fee_nano_usd + expense_nano_usd",
            name="parts_add_up",
        ),
        CheckConstraint(
            "clawback_nano_usd = 0 or (bearer = 'provider' and provider_id is not null)",
            name="provider_bears_its_own",
        ),
        CheckConstraint(
            "(kind = 'credit_note') = (credit_note_id is not null) and (kind = 'credit_note') = (request_id is null)",
            name="of_one_thing",
        ),
        CheckConstraint(
            "(kind = 'rule') = (rule is not null) and (rule is null) = (rule_version is null)",
            name="rule_is_named",
        ),
        CheckConstraint("length(reason) between 1 and 500", name="reason_given"),
        CheckConstraint("length(key) between 1 and 200", name="key_length"),
        CheckConstraint("part >= 0 and (part = 0 or request_id is not null)", name="part_of_a_request"),
        Index("uq_refund_rule", "request_id", "part", unique=True, postgresql_where=text("kind = 'rule'")),
        Index("ix_refund_organization_id_id", "organization_id", "id"),
    )

    key: Mapped[str] = mapped_column(unique=True)
    """Idempotency key: "rule:<request>", "admin:<caller's key>", both with ":<part>" for a later part, "credit_note:<id>"."""
    kind: Mapped[RefundKind] = mapped_column(text_enum(RefundKind))
    organization_id: Mapped[UUID]
    request_id: Mapped[UUID | None] = mapped_column(index=True)
    credit_note_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("credit_note.id", ondelete="RESTRICT"), unique=True
    )
    provider_id: Mapped[UUID | None]
    """Who served it."""
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What the customer gets: `clawback` + `fee` + `expense`."""
    clawback_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What the provider gave back."""
    fee_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """The platform's own part of the charge."""
    expense_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What the platform bears beyond its fee."""
    bearer: Mapped[Bearer] = mapped_column(text_enum(Bearer))
    rule: Mapped[str | None] = mapped_column(String(64))
    rule_version: Mapped[int | None]
    reason: Mapped[str]
    actor_id: Mapped[UUID | None]
    """The administrator; None where a rule decided."""
    part: Mapped[int] = mapped_column(server_default=text("0"))
    """Of the request: whose usage is given back (`UsageRecord.part`); a refund is of one part."""
