"""Who may use: invoices, credit notes and refunds."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MANAGERS, Admin, MemberOf, Rule

INVOICES_RULES: Mapping[str, Rule] = {
    "Query.invoices": Admin(),
    "Query.refunds": Admin(),
    "Mutation.setBillingProfile": MemberOf("organization_id", Prefix.ORGANIZATION, MANAGERS),
    "Mutation.draftInvoice": Admin(),
    "Mutation.finalizeInvoice": Admin(),
    "Mutation.voidInvoice": Admin(),
    "Mutation.createCreditNote": Admin(),
    "Mutation.issueCreditNote": Admin(),
    "Mutation.voidCreditNote": Admin(),
    "Mutation.refundRequest": Admin(),
}
