"""The table of self-billing invoices. Its triggers refuse what the ledger does not say, and every change."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from raymart_marketplace.db.base import Row


class SelfBillingInvoice(Row):
    """What a provider supplied up to one payment, and that payment. Issued once it is final; never changes."""

    __tablename__ = "self_billing_invoice"
    __table_args__ = (
        CheckConstraint(
            "after_transfer_id >= 0 and up_to_transfer_id >= after_transfer_id", name="range_goes_on"
        ),
        CheckConstraint("paid_micro_usdc > 0", name="paid_positive"),
        CheckConstraint("length(content_sha256) = 32", name="hash_is_sha256"),
        CheckConstraint("jsonb_typeof(lines) = 'array'", name="lines_are_a_list"),
        Index("ix_self_billing_invoice_provider_id_id", "provider_id", "id"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="RESTRICT"))
    provider_id: Mapped[UUID] = mapped_column(ForeignKey("provider.id", ondelete="RESTRICT"))
    payout_item_id: Mapped[UUID] = mapped_column(
        ForeignKey("payout_item.id", ondelete="RESTRICT"), unique=True
    )
    number: Mapped[str] = mapped_column(unique=True)
    """Such as "RMS-2026-000001"; without gaps within its year."""
    after_transfer_id: Mapped[int] = mapped_column(BigInteger)
    """The last transfer of the document before; 0 for the first."""
    up_to_transfer_id: Mapped[int] = mapped_column(BigInteger)
    """The transfer by which the payment left the provider's account, unless a later document has it already."""
    opening_nano_usd: Mapped[int] = mapped_column(BigInteger)
    earned_nano_usd: Mapped[int] = mapped_column(BigInteger)
    """What was supplied: usage, less what refunds and reversals took."""
    closing_nano_usd: Mapped[int] = mapped_column(BigInteger)
    paid_micro_usdc: Mapped[int] = mapped_column(BigInteger)
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """`lines.Line`s, in their order."""
    supplier: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """The provider as a party, as it was."""
    recipient: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """The marketplace, which writes the document in the supplier's name."""
    payment: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """To which wallet, by which transaction, when it was final."""
    content_sha256: Mapped[bytes]
