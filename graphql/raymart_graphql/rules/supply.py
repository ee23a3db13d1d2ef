"""Who may change what is sold, and on which machines."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, MemberOfSource, Platform, Public, Rule
from raymart_marketplace.accounts.permissions import Permission

SUPPLY_RULES: Mapping[str, Rule] = {
    "Mutation.openOffer": MemberOf("provider_id", Prefix.PROVIDER, Permission.OFFERS_MANAGE),
    "Mutation.pauseOffer": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Mutation.resumeOffer": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Mutation.closeOffer": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Mutation.setDataPolicy": MemberOf("provider_id", Prefix.PROVIDER, Permission.OFFERS_MANAGE),
    "Mutation.setOfferPlacement": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Offer.placement": MemberOfSource(Permission.SUPPLY_READ),
    "Offer.rejections": MemberOfSource(Permission.SUPPLY_READ),
    "Mutation.drainNode": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
    "Mutation.resumeNode": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
    "Query.benchmarkRules": Public(),
    "Query.knownGpus": Public(),
    "Mutation.runBenchmark": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
    "Mutation.scheduleMaintenance": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
    "Mutation.cancelMaintenance": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
    "Mutation.registerProvider": MemberOf(
        "organization_id", Prefix.ORGANIZATION, Permission.ORGANIZATION_MANAGE
    ),
    "Mutation.setProviderContact": MemberOf("provider_id", Prefix.PROVIDER, Permission.ORGANIZATION_MANAGE),
    "Mutation.verifyProviderContact": Public(),  # The token of a mail is the credential.
    "Mutation.approveProvider": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.declineProvider": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.closeProvider": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Query.providers": Platform(Permission.PLATFORM_MARKET_READ),
    "Query.providerNodes": Platform(Permission.PLATFORM_MARKET_READ),
    # Its name is public; how it is reached and what became of it is its own business.
    "Provider.application": MemberOfSource(Permission.SUPPLY_READ),
    "Provider.history": MemberOfSource(Permission.SUPPLY_READ),
    "Mutation.createPool": MemberOf("provider_id", Prefix.PROVIDER, Permission.ORGANIZATION_MANAGE),
    "Mutation.createHousePool": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.revokeJoinToken": MemberOf("provider_id", Prefix.PROVIDER, Permission.NODES_MANAGE),
    "Provider.joinTokens": MemberOfSource(Permission.SUPPLY_READ),
    "Mutation.retireNode": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
}
