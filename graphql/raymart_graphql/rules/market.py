"""Who may sign in, look at the market, use it, and run the books' first page."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import (
    MANAGERS,
    READERS,
    WRITERS,
    Admin,
    MayInfer,
    MemberOf,
    MemberOfSource,
    Public,
    Rule,
    SignedIn,
)

MARKET_RULES: Mapping[str, Rule] = {
    "Query.node": Public(),  # Each type's own rule is in NODE_RULES.
    "Query.nodes": Public(),
    "Query.viewer": SignedIn(),
    "Query.organization": SignedIn(),  # Null unless the viewer is a member or an administrator.
    "Query.models": Public(),
    "Query.model": Public(),
    "Query.provider": Public(),
    "Query.ledgerAccounts": Admin(),
    "Query.trialBalance": Admin(),
    "Mutation.login": Public(),
    "Mutation.createApiKey": MemberOf("project_id", Prefix.PROJECT, WRITERS),
    "Mutation.revokeApiKey": MemberOf("api_key_id", Prefix.API_KEY, WRITERS),
    "Mutation.createChatCompletion": MayInfer(WRITERS),
    "Mutation.createJoinToken": MemberOf("provider_id", Prefix.PROVIDER, MANAGERS),
    "Mutation.setOfferAsks": MemberOf("offer_id", Prefix.OFFER, MANAGERS),
    "Mutation.grantCredit": Admin(),
    "Subscription.chatCompletion": MayInfer(WRITERS),
    "Provider.nodes": MemberOfSource(READERS),
    "Provider.pools": MemberOfSource(READERS),
    "Provider.earnings": MemberOfSource(READERS),
}
