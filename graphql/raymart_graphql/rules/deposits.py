"""Who may use: deposits, disputes, grants and alerts."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MANAGERS, Admin, MemberOf, Rule

DEPOSITS_RULES: Mapping[str, Rule] = {
    "Query.disputes": Admin(),
    "Query.heldDeposits": Admin(),
    "Query.stripeEventsInReview": Admin(),
    "Mutation.createDeposit": MemberOf("organization_id", Prefix.ORGANIZATION, MANAGERS),
    "Mutation.setLowBalanceThreshold": MemberOf("organization_id", Prefix.ORGANIZATION, MANAGERS),
    "Mutation.refundDeposit": Admin(),
    "Mutation.creditHeldDeposit": Admin(),
    "Mutation.resolveStripeEvent": Admin(),
    "Mutation.adjustBalance": Admin(),
    "Mutation.blockCustomer": Admin(),
    "Mutation.unblockCustomer": Admin(),
}
