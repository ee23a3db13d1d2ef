"""Who may use: invoices, credit notes and refunds."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, MemberOfSource, Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

INVOICES_RULES: Mapping[str, Rule] = {
    "Query.invoices": Platform(Permission.PLATFORM_BILLING_READ),
    "Query.refunds": Platform(Permission.PLATFORM_BILLING_READ),
    "Mutation.setBillingProfile": MemberOf("organization_id", Prefix.ORGANIZATION, Permission.BILLING_MANAGE),
    "Mutation.draftInvoice": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.finalizeInvoice": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.voidInvoice": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.createCreditNote": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.issueCreditNote": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Mutation.voidCreditNote": Platform(Permission.PLATFORM_BILLING_MANAGE),
    "Organization.invoices": MemberOfSource(Permission.BILLING_READ),
    "Organization.refunds": MemberOfSource(Permission.BILLING_READ),
    "Organization.billingProfile": MemberOfSource(Permission.BILLING_READ),
    "Mutation.refundRequest": Platform(Permission.PLATFORM_REFUND),
}
