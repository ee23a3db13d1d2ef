"""What mutations of invoices, credit notes and refunds take and give."""

from datetime import date
from decimal import Decimal

import strawberry

from raymart_billing.refunds.models import Bearer
from raymart_graphql.schema.invoices.types import BillingProfile, CreditNote, Invoice, Refund
from raymart_graphql.schema.user_error import Payload


@strawberry.input(description="To whom later invoices are made out.")
class SetBillingProfileInput:
    """All of it; what is left out is removed."""

    organization_id: strawberry.ID = strawberry.field(description="Whose invoices.")
    legal_name: str = strawberry.field(description="Name of the legal entity, 1 to 200 characters.")
    address: str = strawberry.field(description="Up to 6 lines and 500 characters, without name and country.")
    country: str = strawberry.field(description="ISO 3166, two letters.")
    tax_id: str | None = strawberry.field(
        default=None, description="As the country's tax office writes it, up to 50 characters."
    )
    email: str = strawberry.field(description="Where invoices go.")


@strawberry.type(description="What setBillingProfile gives back.")
class SetBillingProfilePayload(Payload):
    """The profile, or why it was not changed."""

    billing_profile: BillingProfile | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="The invoice to draw up.")
class DraftInvoiceInput:
    """One customer and one month."""

    organization_id: strawberry.ID = strawberry.field(description="Whose invoice.")
    period_start: date = strawberry.field(description="First day of a month that is over, UTC.")


@strawberry.type(description="What draftInvoice gives back.")
class DraftInvoicePayload(Payload):
    """The invoice of the month."""

    invoice: Invoice | None = strawberry.field(
        default=None,
        description="The month's invoice, new or not; null when nothing was booked, or there are user errors.",
    )


@strawberry.input(description="The draft to make final.")
class FinalizeInvoiceInput:
    """One draft."""

    invoice_id: strawberry.ID = strawberry.field(description="Which draft.")


@strawberry.type(description="What finalizeInvoice gives back.")
class FinalizeInvoicePayload(Payload):
    """The final invoice, or why it is not."""

    invoice: Invoice | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="The invoice to withdraw.")
class VoidInvoiceInput:
    """The newest final invoice of a customer."""

    invoice_id: strawberry.ID = strawberry.field(description="Which invoice; the customer's newest.")
    reason: str = strawberry.field(description="Shown on the invoice, 1 to 500 characters.")


@strawberry.type(description="What voidInvoice gives back.")
class VoidInvoicePayload(Payload):
    """The void invoice, or why it is not."""

    invoice: Invoice | None = strawberry.field(default=None, description="Null when there are user errors.")


@strawberry.input(description="One line of a credit note.")
class CreditNoteLineInput:
    """What is corrected, and by how much."""

    description: str = strawberry.field(description="What is corrected, 1 to 300 characters.")
    amount: Decimal = strawberry.field(description="US dollars, above 0, at most 9 decimal places.")


@strawberry.input(description="A correction of a final invoice in the customer's favour.")
class CreateCreditNoteInput:
    """At most what is left of the invoice."""

    invoice_id: strawberry.ID = strawberry.field(description="The final invoice that it corrects.")
    reason: str = strawberry.field(description="Shown on it, 1 to 500 characters.")
    lines: list[CreditNoteLineInput] = strawberry.field(description="1 to 100 of them.")


@strawberry.type(description="What createCreditNote gives back.")
class CreateCreditNotePayload(Payload):
    """The draft, or why there is none."""

    credit_note: CreditNote | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="The credit note to issue and pay.")
class IssueCreditNoteInput:
    """One draft."""

    credit_note_id: strawberry.ID = strawberry.field(description="Which draft.")


@strawberry.type(description="What issueCreditNote gives back.")
class IssueCreditNotePayload(Payload):
    """The issued credit note, or why it is not."""

    credit_note: CreditNote | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="The draft of a credit note to drop.")
class VoidCreditNoteInput:
    """One draft."""

    credit_note_id: strawberry.ID = strawberry.field(description="Which draft.")


@strawberry.type(description="What voidCreditNote gives back.")
class VoidCreditNotePayload(Payload):
    """The dropped credit note, or why it is not."""

    credit_note: CreditNote | None = strawberry.field(
        default=None, description="Null when there are user errors."
    )


@strawberry.input(description="Money back for one request.")
class RefundRequestInput:
    """All of its charge, or a part."""

    request_id: strawberry.ID = strawberry.field(description="Which request.")
    amount: Decimal | None = strawberry.field(
        default=None, description="US dollars, above 0, at most 9 decimal places; all that is left if null."
    )
    bearer: Bearer = strawberry.field(default=Bearer.PLATFORM, description="Who bears it.")
    reason: str = strawberry.field(
        description="Kept with the refund and shown to the customer, 1 to 500 characters."
    )
    idempotency_key: str = strawberry.field(
        description="1 to 128 characters of your choice; the same key refunds once, however often it is sent."
    )


@strawberry.type(description="What refundRequest gives back.")
class RefundRequestPayload(Payload):
    """The refund, or why there is none."""

    refund: Refund | None = strawberry.field(
        default=None, description="The first of them; null when there are user errors."
    )
    refunds: list[Refund] | None = strawberry.field(
        default=None, description="One for each part of the answer that is given back; null like `refund`."
    )
