"""Who may use: rate cards, caps, fees and asks."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, MemberOfSource, Platform, Public, Rule
from raymart_marketplace.accounts.permissions import Permission

PRICING_RULES: Mapping[str, Rule] = {
    "Query.priceCaps": Platform(Permission.PLATFORM_MARKET_READ),
    "Query.feeSchedules": Platform(Permission.PLATFORM_MARKET_READ),
    "Query.quoteRequest": Public(),
    "Mutation.publishRateCard": Platform(Permission.PLATFORM_PRICES_MANAGE),
    "Mutation.retireRateCard": Platform(Permission.PLATFORM_PRICES_MANAGE),
    "Mutation.setPriceCap": Platform(Permission.PLATFORM_PRICES_MANAGE),
    "Mutation.setFeeSchedule": Platform(Permission.PLATFORM_PRICES_MANAGE),
    "Mutation.setOfferWindows": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    "Mutation.setOfferFloor": MemberOf("offer_id", Prefix.OFFER, Permission.OFFERS_MANAGE),
    # How far down a provider would go is its own business.
    "Offer.floors": MemberOfSource(Permission.SUPPLY_READ),
    "Offer.unsellableReason": MemberOfSource(Permission.SUPPLY_READ),
}
