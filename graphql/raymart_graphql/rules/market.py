"""Who may sign in, look at the market, use it, and run the books' first page."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MayInfer, MemberOf, MemberOfSource, Platform, Public, Rule, SignedIn
from raymart_marketplace.accounts.permissions import Permission

MARKET_RULES: Mapping[str, Rule] = {
    "Query.node": Public(),  # Each type's own rule is in NODE_RULES.
    "Query.nodes": Public(),
    "Query.rateLimit": Public(),
    "Query.viewer": SignedIn(),
    "Query.organization": SignedIn(),  # Null unless the viewer is a member or an administrator.
    "Query.models": Public(),
    "Query.model": Public(),
    "Query.provider": Public(),
    "Query.pools": Platform(Permission.PLATFORM_MARKET_READ),
    "Query.offers": Public(),
    "Query.offerSearch": Public(),
    "Query.explainRoute": Public(),
    "Query.ledgerAccounts": Platform(Permission.PLATFORM_LEDGER_READ),
    "Query.trialBalance": Platform(Permission.PLATFORM_LEDGER_READ),
    "Mutation.publishModelRevision": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.deprecateModelRevision": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.withdrawModelRevision": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.pointModelAlias": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.rollBackModelAlias": Platform(Permission.PLATFORM_MARKET_MANAGE),
    "Mutation.createChatCompletion": MayInfer(),
    "Mutation.createImage": MayInfer(),
    "Mutation.createEmbedding": MayInfer(),
    "Mutation.createJoinToken": MemberOf("provider_id", Prefix.PROVIDER, Permission.NODES_MANAGE),
    "Mutation.setOfferAsks": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Mutation.grantCredit": Platform(Permission.PLATFORM_LEDGER_WRITE),
    "Subscription.chatCompletion": MayInfer(),
    "Subscription.imageGeneration": MayInfer(),
    "Organization.statement": MemberOfSource(Permission.BILLING_READ),
    "Provider.nodes": MemberOfSource(Permission.SUPPLY_READ),
    "Provider.pools": MemberOfSource(Permission.SUPPLY_READ),
    "Pool.drift": MemberOfSource(Permission.SUPPLY_READ),
    "Provider.earnings": MemberOfSource(Permission.EARNINGS_READ),
}
