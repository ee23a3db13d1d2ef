"""Invoices, credit notes and refunds: what administrators do with them, and customers with their billing profile."""

from decimal import Decimal
from uuid import UUID

import strawberry

from raymart_billing import invoices, refunds
from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.invoices.inputs import (
    CreateCreditNoteInput,
    CreateCreditNotePayload,
    DraftInvoiceInput,
    DraftInvoicePayload,
    FinalizeInvoiceInput,
    FinalizeInvoicePayload,
    IssueCreditNoteInput,
    IssueCreditNotePayload,
    RefundRequestInput,
    RefundRequestPayload,
    SetBillingProfileInput,
    SetBillingProfilePayload,
    VoidCreditNoteInput,
    VoidCreditNotePayload,
    VoidInvoiceInput,
    VoidInvoicePayload,
)
from raymart_graphql.schema.invoices.types import BillingProfile, CreditNote, Invoice, Refund


@strawberry.type
class InvoiceMutation:
    """Root fields of the domain."""

    @mutation("Say to whom an organization's later invoices are made out.")
    async def set_billing_profile(
        self, info: Info, input_: SetBillingProfileInput
    ) -> SetBillingProfilePayload:
        """Replaces the profile."""
        party = invoices.Party(
            legal_name=input_.legal_name,
            address=input_.address,
            country=input_.country,
            tax_id=input_.tax_id,
            email=input_.email,
        )
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        async with info.context.writing() as session:
            profile = await invoices.set_billing_profile(
                session, organization_id=organization_id, party=party, actor_id=await _actor(info)
            )
        return SetBillingProfilePayload(billing_profile=BillingProfile.of(profile))

    @mutation("Draw up the invoice of a month that is over. For administrators.")
    async def draft_invoice(self, info: Info, input_: DraftInvoiceInput) -> DraftInvoicePayload:
        """A repeat gives the month's invoice as it is."""
        organization_id = parse_global_id(
            Prefix.ORGANIZATION, input_.organization_id, field="organization_id"
        )
        async with info.context.writing() as session:
            invoice = await invoices.draft_invoice(
                session, organization_id=organization_id, period_start=input_.period_start
            )
        return DraftInvoicePayload(invoice=Invoice.of(invoice) if invoice else None)

    @mutation("Number a draft and make it final. For administrators.")
    async def finalize_invoice(self, info: Info, input_: FinalizeInvoiceInput) -> FinalizeInvoicePayload:
        """A repeat changes nothing."""
        invoice_id = parse_global_id(Prefix.INVOICE, input_.invoice_id, field="invoice_id")
        seller = invoices.seller_of(info.context.services.settings)
        async with info.context.writing() as session:
            invoice = await invoices.finalize_invoice(
                session, invoice_id, seller=seller, actor_id=await _actor(info)
            )
        return FinalizeInvoicePayload(invoice=Invoice.of(invoice))

    @mutation("Withdraw the newest final invoice of a customer. For administrators.")
    async def void_invoice(self, info: Info, input_: VoidInvoiceInput) -> VoidInvoicePayload:
        """A repeat changes nothing."""
        invoice_id = parse_global_id(Prefix.INVOICE, input_.invoice_id, field="invoice_id")
        async with info.context.writing() as session:
            invoice = await invoices.void_invoice(
                session, invoice_id, reason=input_.reason, actor_id=await _actor(info)
            )
        return VoidInvoicePayload(invoice=Invoice.of(invoice))

    @mutation("Draw up a credit note on a final invoice; nothing is paid yet. For administrators.")
    async def create_credit_note(self, info: Info, input_: CreateCreditNoteInput) -> CreateCreditNotePayload:
        """A draft; `issueCreditNote` pays it."""
        corrections = [
            invoices.Correction(
                description=line.description, amount=_amount(line.amount, field=f"lines[{position}].amount")
            )
            for position, line in enumerate(input_.lines)
        ]
        invoice_id = parse_global_id(Prefix.INVOICE, input_.invoice_id, field="invoice_id")
        async with info.context.writing() as session:
            note = await invoices.create_credit_note(
                session,
                invoice_id=invoice_id,
                corrections=corrections,
                reason=input_.reason,
                actor_id=await _actor(info),
            )
        return CreateCreditNotePayload(credit_note=CreditNote.of(note))

    @mutation("Number a credit note and pay it into the customer's balance. For administrators.")
    async def issue_credit_note(self, info: Info, input_: IssueCreditNoteInput) -> IssueCreditNotePayload:
        """A repeat changes nothing."""
        note_id = parse_global_id(Prefix.CREDIT_NOTE, input_.credit_note_id, field="credit_note_id")
        async with info.context.writing() as session:
            note = await invoices.issue_credit_note(session, note_id, actor_id=await _actor(info))
        return IssueCreditNotePayload(credit_note=CreditNote.of(note))

    @mutation("Drop the draft of a credit note. For administrators.")
    async def void_credit_note(self, info: Info, input_: VoidCreditNoteInput) -> VoidCreditNotePayload:
        """What was issued stays."""
        note_id = parse_global_id(Prefix.CREDIT_NOTE, input_.credit_note_id, field="credit_note_id")
        async with info.context.writing() as session:
            note = await invoices.void_credit_note(session, note_id)
        return VoidCreditNotePayload(credit_note=CreditNote.of(note))

    @mutation("Give a request's charge back, all of it or a part. For administrators.")
    async def refund_request(self, info: Info, input_: RefundRequestInput) -> RefundRequestPayload:
        """Once per idempotency key."""
        request_id = parse_global_id(Prefix.REQUEST, input_.request_id, field="request_id")
        amount = None if input_.amount is None else _amount(input_.amount, field="amount")
        async with info.context.writing() as session:
            paid = await refunds.refund_request(
                session,
                request_id=request_id,
                amount=amount,
                bearer=input_.bearer,
                reason=input_.reason,
                key=input_.idempotency_key,
                actor_id=await _actor(info),
            )
        return RefundRequestPayload(refund=Refund.of(paid[0]), refunds=[Refund.of(refund) for refund in paid])


async def _actor(info: Info) -> UUID:
    principal = await info.context.principal()
    if principal.user_id is None:
        raise NotFound("the rule lets only people in")
    return principal.user_id


def _amount(value: Decimal, *, field: str) -> Amount:
    try:
        return Amount.parse(str(value))
    except ValueError as error:
        raise InvalidRequest(str(error), param=field) from None
