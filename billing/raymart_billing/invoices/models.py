"""Tables of invoices and credit notes. The triggers of migration 0008 guard them; what was issued never changes."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_core.money import Asset
from raymart_marketplace.db.base import Base, Row, text_enum


class InvoiceState(StrEnum):
    """How far an invoice has come."""

    DRAFT = "draft"
    """Drawn up for a month that is over, without a number; waits for the grace period or an administrator."""
    FINAL = "final"
    """Numbered and sent. Never changes again."""
    VOID = "void"
    """Was final and is withdrawn, with a reason; its number stays taken, its month may be invoiced anew."""


class LineKind(StrEnum):
    """What a line of an invoice is about."""

    USAGE = "usage"
    """Usage of one model in one unit at one price."""
    USAGE_WAIVED = "usage_waived"
    """Usage that the customer is not charged for: neither hold nor balance covered it."""
    DEPOSIT = "deposit"
    GRANT = "grant"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    DISPUTE = "dispute"
    OTHER = "other"


class CreditNoteState(StrEnum):
    """How far a credit note has come."""

    DRAFT = "draft"
    ISSUED = "issued"
    """Numbered and paid into the balance. Never changes again."""
    VOID = "void"
    """A draft that was dropped; nothing was paid."""


class BillingProfile(Base):
    """To whom an organization's invoices are made out. Copied into each invoice when it becomes final."""

    __tablename__ = "billing_profile"
    __table_args__ = (
        CheckConstraint(
            "length(legal_name) between 1 and 200 and length(address) between 1 and 500 and length(email) between 3 and 254"
            " and (tax_id is null or length(tax_id) between 1 and 50)",
            name="lengths",
        ),
        CheckConstraint("country ~ '^[A-Z]{2}$'", name="country_is_iso_3166"),
    )

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="RESTRICT"), primary_key=True
    )
    legal_name: Mapped[str]
    address: Mapped[str]
    """Its lines, one below the other, without name and country."""
    country: Mapped[str]
    tax_id: Mapped[str | None]
    email: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_by: Mapped[UUID | None]


class DocumentSeries(Base):
    """Where a series of numbers stands. Written by `document_number_next` alone."""

    __tablename__ = "document_series"
    __table_args__ = (
        CheckConstraint("series ~ '^[A-Z]{2,4}-[0-9]{4}$'", name="series_is_short"),
        CheckConstraint("last_number between 1 and 999999", name="from_one"),
    )

    series: Mapped[str] = mapped_column(primary_key=True)
    last_number: Mapped[int] = mapped_column(BigInteger)


class Invoice(Row):
    """A month of one customer's balance: the range of the ledger after one transfer up to another."""

    __tablename__ = "invoice"
    __table_args__ = (
        CheckConstraint("asset = 'usd'", name="asset_is_usd"),
        CheckConstraint(
            "extract(day from period_start) = 1 and period_end = (period_start + interval '1 month')::date",
            name="period_is_a_month",
        ),
        CheckConstraint(
            "after_transfer_id >= 0 and up_to_transfer_id >= after_transfer_id", name="range_goes_on"
        ),
        CheckConstraint(
            "opening_nano_usd >= 0 and closing_nano_usd >= 0 and charged_nano_usd >= 0",
            name="balances_not_negative",
        ),
        CheckConstraint(
            "(state = 'draft') = (number is null) and (number is null) = (buyer is null)"
            " and (number is null) = (seller is null) and (number is null) = (content_sha256 is null)"
            " and (number is null) = (issued_at is null)",
            name="issued_is_complete",
        ),
        CheckConstraint("length(content_sha256) = 32", name="hash_is_sha256"),
        CheckConstraint(
            "(state = 'void') = (void_reason is not null) and (state = 'void') = (voided_at is not null)"
            " and length(void_reason) between 1 and 500",
            name="void_has_reason",
        ),
        Index(
            "uq_invoice_living_month",
            "organization_id",
            "period_start",
            unique=True,
            postgresql_where=text("state <> 'void'"),
        ),
        Index(
            "uq_invoice_final_range",
            "organization_id",
            "after_transfer_id",
            unique=True,
            postgresql_where=text("state = 'final'"),
        ),
        Index("ix_invoice_organization_id_id", "organization_id", "id"),
        Index("ix_invoice_drafts", "period_end", postgresql_where=text("state = 'draft'")),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    state: Mapped[InvoiceState] = mapped_column(text_enum(InvoiceState))
    asset: Mapped[Asset] = mapped_column(text_enum(Asset))
    period_start: Mapped[date]
    """First day of the month, UTC."""
    period_end: Mapped[date]
    """First day after it."""
    after_transfer_id: Mapped[int] = mapped_column(BigInteger)
    """The last transfer of the invoice before; 0 for the first."""
    up_to_transfer_id: Mapped[int] = mapped_column(BigInteger)
    """The last transfer of this one. What the ledger took later is on the next invoice."""
    booked_until: Mapped[datetime]
    """The moment that `up_to_transfer_id` stands for: the month's end, or the first quiet moment after it."""
    opening_nano_usd: Mapped[int] = mapped_column(BigInteger)
    closing_nano_usd: Mapped[int] = mapped_column(BigInteger)
    charged_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What the balance paid for usage."""
    number: Mapped[str | None] = mapped_column(unique=True)
    """Such as "RM-2026-000001"; without gaps within its year."""
    buyer: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    seller: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    content_sha256: Mapped[bytes | None]
    """Of all that the document says (`content.py`)."""
    issued_at: Mapped[datetime | None]
    issued_by: Mapped[UUID | None]
    """None where the month-end task did."""
    void_reason: Mapped[str | None]
    voided_at: Mapped[datetime | None]
    voided_by: Mapped[UUID | None]


class InvoiceLine(Row):
    """One line: a change of the balance, negative for what was spent."""

    __tablename__ = "invoice_line"
    __table_args__ = (
        UniqueConstraint("invoice_id", "position"),
        CheckConstraint("position >= 0", name="position_not_negative"),
        CheckConstraint("transfers > 0", name="transfers_positive"),
        CheckConstraint(
            "(kind = 'usage') = (unit is not null) and (unit is null) = (model_id is null)"
            " and (unit is null) = (scale is null) and (unit is null) = (quantity is null)"
            " and (unit is null) = (unit_price_nano_usd is null) and (unit is null) = (usage_month is null)",
            name="usage_is_whole",
        ),
        CheckConstraint(
            "unit is null or (scale > 0 and quantity > 0 and unit_price_nano_usd >= 0 and amount_nano_usd <= 0"
            " and -amount_nano_usd::numeric * scale <= quantity::numeric * unit_price_nano_usd"
            " and (-amount_nano_usd::numeric + transfers) * scale > quantity::numeric * unit_price_nano_usd)",
            name="amount_is_quantity_times_price",
        ),
        CheckConstraint("unit is not null or amount_nano_usd <> 0", name="something_moved"),
        Index(
            "ix_invoice_line_usage",
            "usage_month",
            "model_id",
            postgresql_where=text("unit is not null"),
        ),
    )

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoice.id", ondelete="RESTRICT"))
    position: Mapped[int]
    kind: Mapped[LineKind] = mapped_column(text_enum(LineKind))
    code: Mapped[str] = mapped_column(String(32))
    """The ledger's transfer code."""
    description: Mapped[str]
    occurred_at: Mapped[datetime | None]
    """When it was booked, where the line is one transfer."""
    transfers: Mapped[int] = mapped_column(BigInteger)
    """How many transfers, or for usage how many requests, the line sums up."""
    usage_month: Mapped[date | None]
    """The month in which the requests came; earlier than the invoice's own where usage was posted late."""
    model_id: Mapped[UUID | None]
    unit: Mapped[str | None] = mapped_column(String(32))
    scale: Mapped[int | None] = mapped_column(BigInteger)
    """Measured quantity for one priced unit."""
    quantity: Mapped[int | None] = mapped_column(BigInteger)
    unit_price_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)


class CreditNote(Row):
    """A correction of a final invoice in the customer's favour; paid into the balance when it is issued."""

    __tablename__ = "credit_note"
    __table_args__ = (
        CheckConstraint("amount_nano_usd > 0", name="amount_positive"),
        CheckConstraint("length(reason) between 1 and 500", name="reason_given"),
        CheckConstraint(
            "(state = 'issued') = (number is not null) and (number is null) = (content_sha256 is null)"
            " and (number is null) = (issued_at is null)",
            name="issued_is_complete",
        ),
        CheckConstraint("length(content_sha256) = 32", name="hash_is_sha256"),
        Index("ix_credit_note_organization_id_id", "organization_id", "id"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoice.id", ondelete="RESTRICT"), index=True)
    state: Mapped[CreditNoteState] = mapped_column(text_enum(CreditNoteState))
    reason: Mapped[str]
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    created_by: Mapped[UUID | None]
    number: Mapped[str | None] = mapped_column(unique=True)
    """Such as "RMC-2026-000001"."""
    content_sha256: Mapped[bytes | None]
    issued_at: Mapped[datetime | None]
    issued_by: Mapped[UUID | None]


class CreditNoteLine(Row):
    """One line of a credit note."""

    __tablename__ = "credit_note_line"
    __table_args__ = (
        UniqueConstraint("credit_note_id", "position"),
        CheckConstraint("amount_nano_usd > 0", name="amount_positive"),
        CheckConstraint("length(description) between 1 and 300", name="described"),
    )

    credit_note_id: Mapped[UUID] = mapped_column(ForeignKey("credit_note.id", ondelete="RESTRICT"))
    position: Mapped[int]
    description: Mapped[str]
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
