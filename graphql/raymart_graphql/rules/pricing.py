"""Who may use: rate cards, caps, fees and asks."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MANAGERS, READERS, Admin, MemberOf, MemberOfSource, Public, Rule

PRICING_RULES: Mapping[str, Rule] = {
    "Query.priceCaps": Admin(),
    "Query.feeSchedules": Admin(),
    "Query.quoteRequest": Public(),
    "Mutation.publishRateCard": Admin(),
    "Mutation.retireRateCard": Admin(),
    "Mutation.setPriceCap": Admin(),
    "Mutation.setFeeSchedule": Admin(),
    "Mutation.setOfferWindows": MemberOf("offer_id", Prefix.OFFER, MANAGERS),
    "Mutation.setOfferFloor": MemberOf("offer_id", Prefix.OFFER, MANAGERS),
    # How far down a provider would go is its own business.
    "Offer.floors": MemberOfSource(READERS),
    "Offer.unsellableReason": MemberOfSource(READERS),
}
