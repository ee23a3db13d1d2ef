"""Who may use: payouts, as the marketplace's people see them."""

from collections.abc import Mapping

from raymart_graphql.permissions import Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

_READ = Platform(Permission.PLATFORM_PAYOUTS_READ)
_MANAGE = Platform(Permission.PLATFORM_PAYOUTS_MANAGE)

PAYOUTS_RULES: Mapping[str, Rule] = {
    "Query.payoutBatches": _READ,
    "Query.payoutBatch": _READ,
    "Query.payoutItemUsage": _READ,
    "Query.unpaidEarnings": _READ,
    "Query.payoutEpochs": _READ,
    "Query.payoutPolicy": _READ,
    "Query.payoutPolicies": _READ,
    "Query.payoutStops": _READ,
    "Mutation.requestPayoutPlan": _MANAGE,
    "Mutation.approvePayoutBatch": _MANAGE,
    "Mutation.holdPayoutBatch": _MANAGE,
    "Mutation.releasePayoutBatch": _MANAGE,
    "Mutation.splitPayoutBatch": _MANAGE,
    "Mutation.cancelPayoutBatch": _MANAGE,
    "Mutation.pausePayouts": _MANAGE,
    "Mutation.resumePayouts": _MANAGE,
    "Mutation.setPayoutPolicy": _MANAGE,
    "Mutation.setProviderTrust": _MANAGE,
}
