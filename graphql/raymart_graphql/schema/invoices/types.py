"""Invoices, credit notes, refunds and billing profiles."""

from datetime import date, datetime
from uuid import UUID

import strawberry

from raymart_billing.invoices import models
from raymart_billing.invoices.models import CreditNoteState, InvoiceState, LineKind
from raymart_billing.refunds import models as refunds
from raymart_billing.refunds.models import Bearer, RefundKind
from raymart_core.ids import Prefix
from raymart_graphql.context import Info, Operation
from raymart_graphql.enums import expose
from raymart_graphql.fields import listed, resolved
from raymart_graphql.relay import Connection, Node, Page, global_id
from raymart_graphql.scalars import BigInt, Money
from raymart_marketplace.accounts.permissions import Permission

expose(
    InvoiceState,
    name="InvoiceState",
    description="How far an invoice has come.",
    values={
        "DRAFT": "Drawn up for a month that is over, without a number.",
        "FINAL": "Numbered. It never changes again.",
        "VOID": "Withdrawn, with a reason; its number stays taken.",
    },
)
expose(
    LineKind,
    name="InvoiceLineKind",
    description="What a line of an invoice is about.",
    values={
        "USAGE": "Usage of one model in one unit at one price.",
        "USAGE_WAIVED": "Usage beyond the balance that the customer is not charged for.",
        "DEPOSIT": "Money that was paid in, or back.",
        "GRANT": "Promotional credit, and what of it has expired.",
        "REFUND": "Money back for requests, or by a credit note.",
        "ADJUSTMENT": "A correction by the marketplace.",
        "DISPUTE": "A deposit under dispute, and what came of it.",
        "OTHER": "Anything else that moved the balance.",
    },
)
expose(
    CreditNoteState,
    name="CreditNoteState",
    description="How far a credit note has come.",
    values={
        "DRAFT": "Drawn up; nothing is paid yet.",
        "ISSUED": "Numbered and paid into the balance. It never changes again.",
        "VOID": "A draft that was dropped.",
    },
)
expose(
    RefundKind,
    name="RefundKind",
    description="Who decided on a refund.",
    values={
        "RULE": "A rule on the fault that ended the request.",
        "ADMIN": "An administrator.",
        "CREDIT_NOTE": "A credit note on an invoice.",
    },
)
expose(
    Bearer,
    name="RefundBearer",
    description="Who bears a refund.",
    values={
        "PROVIDER": "The provider's part is taken from what it was not paid yet; the platform bears what is not there.",
        "PLATFORM": "The provider keeps what it earned.",
    },
)


@strawberry.type(description="To whom an organization's invoices are made out.")
class BillingProfile:
    """Visible to the organization's members."""

    legal_name: str = strawberry.field(description="Name of the legal entity.")
    address: str = strawberry.field(description="Its lines, one below the other, without name and country.")
    country: str = strawberry.field(description="ISO 3166, two letters.")
    tax_id: str | None = strawberry.field(description="As the country's tax office writes it.")
    email: str = strawberry.field(description="Where invoices go.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")

    @classmethod
    def of(cls, row: models.BillingProfile) -> "BillingProfile":
        """`row` as the API shows it."""
        return cls(
            legal_name=row.legal_name,
            address=row.address,
            country=row.country,
            tax_id=row.tax_id,
            email=row.email,
            updated_at=row.updated_at,
        )


@strawberry.type(description="One line of an invoice: a change of the balance.")
class InvoiceLine:
    """Visible to the customer's members."""

    position: int = strawberry.field(description="Its place, from 0.")
    kind: LineKind = strawberry.field(description="What it is about.")
    description: str = strawberry.field(description="In words.")
    booked_at: datetime | None = strawberry.field(description="When it was booked, where it is one booking.")
    count: BigInt = strawberry.field(description="Requests, or bookings, that it sums up.")
    usage_month: date | None = strawberry.field(
        description="First day of the month of the requests; before the invoice's own where they were booked late."
    )
    unit: str | None = strawberry.field(description="The meter, such as `token.prompt`; null unless usage.")
    quantity: BigInt | None = strawberry.field(
        description="As measured; `scale` of it is one unit. Null unless usage."
    )
    scale: BigInt | None = strawberry.field(
        description="Measured quantity that makes one unit. Null unless usage."
    )
    unit_price: Money | None = strawberry.field(description="Price of one unit. Null unless usage.")
    amount: Money = strawberry.field(description="Change of the balance; below zero for what was spent.")

    @classmethod
    def of(cls, row: models.InvoiceLine) -> "InvoiceLine":
        """`row` as the API shows it."""
        price = row.unit_price_nano_usd
        return cls(
            position=row.position,
            kind=row.kind,
            description=row.description,
            booked_at=row.occurred_at,
            count=BigInt(row.transfers),
            usage_month=row.usage_month,
            unit=row.unit,
            quantity=None if row.quantity is None else BigInt(row.quantity),
            scale=None if row.scale is None else BigInt(row.scale),
            unit_price=None if price is None else Money.of_nano_usd(price),
            amount=Money.of_nano_usd(row.amount_nano_usd),
        )


@strawberry.type(description="A correction of a final invoice in the customer's favour.")
class CreditNote(Node):
    """Visible to the customer's members."""

    organization_uuid: strawberry.Private[UUID]
    invoice_uuid: strawberry.Private[UUID]
    state: CreditNoteState = strawberry.field(description="How far it has come.")
    number: str | None = strawberry.field(description="Such as `RMC-2026-000001`; null unless issued.")
    reason: str = strawberry.field(description="Why.")
    amount: Money = strawberry.field(description="What the customer gets.")
    issued_at: datetime | None = strawberry.field(description="When it was issued and paid.")
    pdf_path: str = strawberry.field(description="Where the PDF is; send the same credentials.")

    @classmethod
    def of(cls, row: models.CreditNote) -> "CreditNote":
        """`row` as the API shows it."""
        shown = global_id(Prefix.CREDIT_NOTE, row.id)
        return cls(
            id=shown,
            organization_uuid=row.organization_id,
            invoice_uuid=row.invoice_id,
            state=row.state,
            number=row.number,
            reason=row.reason,
            amount=Money.of_nano_usd(row.amount_nano_usd),
            issued_at=row.issued_at,
            pdf_path=f"/billing/credit-notes/{shown}.pdf",
        )

    async def owner(self, _operation: Operation) -> UUID:
        """The customer's organization."""
        return self.organization_uuid

    @resolved("The invoice that it corrects.")
    async def invoice(self, info: Info) -> "Invoice":
        """Its invoice."""
        return await info.context.loaders.invoices.invoice.load_known(self.invoice_uuid)


@strawberry.type(description="A month of a customer's balance. Its lines sum to the change of the balance.")
class Invoice(Node):
    """Visible to the customer's members."""

    uuid: strawberry.Private[UUID]
    organization_uuid: strawberry.Private[UUID]
    state: InvoiceState = strawberry.field(description="How far it has come.")
    number: str | None = strawberry.field(description="Such as `RM-2026-000001`; null for a draft.")
    period_start: date = strawberry.field(description="First day of the month, UTC.")
    period_end: date = strawberry.field(description="First day after it.")
    booked_until: datetime = strawberry.field(
        description="What was booked after this moment is on the next invoice."
    )
    opening_balance: Money = strawberry.field(description="The balance before its first line.")
    closing_balance: Money = strawberry.field(description="The balance after its last line.")
    charged: Money = strawberry.field(description="What the balance paid for usage.")
    content_sha256: str | None = strawberry.field(
        description="Hash of all that it says, hexadecimal; null for a draft."
    )
    issued_at: datetime | None = strawberry.field(description="When it became final.")
    void_reason: str | None = strawberry.field(description="Why it was withdrawn.")
    voided_at: datetime | None = strawberry.field(description="When it was withdrawn.")
    pdf_path: str = strawberry.field(description="Where the PDF is; send the same credentials.")
    csv_path: str = strawberry.field(description="Where its lines are as CSV; send the same credentials.")

    @classmethod
    def of(cls, row: models.Invoice) -> "Invoice":
        """`row` as the API shows it."""
        shown = global_id(Prefix.INVOICE, row.id)
        return cls(
            id=shown,
            uuid=row.id,
            organization_uuid=row.organization_id,
            state=row.state,
            number=row.number,
            period_start=row.period_start,
            period_end=row.period_end,
            booked_until=row.booked_until,
            opening_balance=Money.of_nano_usd(row.opening_nano_usd),
            closing_balance=Money.of_nano_usd(row.closing_nano_usd),
            charged=Money.of_nano_usd(row.charged_nano_usd),
            content_sha256=row.content_sha256.hex() if row.content_sha256 else None,
            issued_at=row.issued_at,
            void_reason=row.void_reason,
            voided_at=row.voided_at,
            pdf_path=f"/billing/invoices/{shown}.pdf",
            csv_path=f"/billing/invoices/{shown}.csv",
        )

    async def owner(self, _operation: Operation) -> UUID:
        """The customer's organization."""
        return self.organization_uuid

    @listed("Its lines, in their order.")
    async def lines(self, info: Info, page: Page) -> Connection[InvoiceLine]:
        """Lines by position."""
        return await info.context.loaders.invoices.lines_of_invoice.load((self.uuid, page))

    @listed("Its credit notes, newest first.")
    async def credit_notes(self, info: Info, page: Page) -> Connection[CreditNote]:
        """Credit notes of the invoice."""
        return await info.context.loaders.invoices.credit_notes_of_invoice.load((self.uuid, page))


@strawberry.type(description="Money given back to a customer.")
class Refund(Node):
    """Visible to the customer's members; who bore it is the marketplace's own matter."""

    organization_uuid: strawberry.Private[UUID]
    kind: RefundKind = strawberry.field(description="Who decided.")
    request_id: strawberry.ID | None = strawberry.field(
        description="Global id of the request; null for a credit note's."
    )
    amount: Money = strawberry.field(description="What the customer got.")
    reason: str = strawberry.field(description="Why.")
    created_at: datetime = strawberry.field(description="When it was paid.")
    parts: strawberry.Private["RefundParts"]

    @classmethod
    def of(cls, row: refunds.Refund) -> "Refund":
        """`row` as the API shows it."""
        return cls(
            id=global_id(Prefix.REFUND, row.id),
            organization_uuid=row.organization_id,
            kind=row.kind,
            request_id=global_id(Prefix.REQUEST, row.request_id) if row.request_id else None,
            amount=Money.of_nano_usd(row.amount_nano_usd),
            reason=row.reason,
            created_at=row.created_at,
            parts=RefundParts.of(row),
        )

    async def owner(self, _operation: Operation) -> UUID:
        """The customer's organization."""
        return self.organization_uuid

    @resolved("Who bore it; null unless you are an administrator.")
    async def borne_by(self, info: Info) -> "RefundParts | None":
        """The split, for administrators."""
        principal = await info.context.principal()
        return self.parts if principal.may_in_market(Permission.PLATFORM_BILLING_READ) else None


@strawberry.type(description="Who bore a refund, and on what grounds. For administrators.")
class RefundParts:
    """`clawback` + `fee` + `expense` is the refund."""

    bearer: Bearer = strawberry.field(description="Who was to bear it.")
    clawback: Money = strawberry.field(description="What the provider gave back.")
    fee: Money = strawberry.field(description="The marketplace's own part of the charge.")
    expense: Money = strawberry.field(description="What the marketplace bore beyond its fee.")
    rule: str | None = strawberry.field(description="Name of the rule; null where none decided.")
    rule_version: int | None = strawberry.field(description="Version of the table of rules.")
    actor_id: strawberry.ID | None = strawberry.field(
        description="Global id of the administrator; null for a rule."
    )

    @classmethod
    def of(cls, row: refunds.Refund) -> "RefundParts":
        """`row` as the API shows it."""
        return cls(
            bearer=row.bearer,
            clawback=Money.of_nano_usd(row.clawback_nano_usd),
            fee=Money.of_nano_usd(row.fee_nano_usd),
            expense=Money.of_nano_usd(row.expense_nano_usd),
            rule=row.rule,
            rule_version=row.rule_version,
            actor_id=global_id(Prefix.USER, row.actor_id) if row.actor_id else None,
        )
