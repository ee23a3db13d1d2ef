"""Who may change what is sold, and on which machines."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, Rule
from raymart_marketplace.accounts.permissions import Permission

SUPPLY_RULES: Mapping[str, Rule] = {
    "Mutation.openOffer": MemberOf("provider_id", Prefix.PROVIDER, Permission.OFFERS_MANAGE),
    "Mutation.pauseOffer": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Mutation.resumeOffer": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Mutation.closeOffer": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Mutation.drainNode": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
    "Mutation.resumeNode": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
    "Mutation.retireNode": MemberOf("node_id", Prefix.NODE, Permission.NODES_MANAGE),
}
