"""Who may use: wallets of providers."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, MemberOfSource, Public, Rule
from raymart_marketplace.accounts.permissions import Permission

_PAYOUTS = MemberOf("organization_id", Prefix.ORGANIZATION, Permission.PAYOUTS_MANAGE)

WALLETS_RULES: Mapping[str, Rule] = {
    "Mutation.createWalletChallenge": _PAYOUTS,
    "Mutation.proveWallet": _PAYOUTS,
    "Mutation.withdrawWallet": _PAYOUTS,
    "Mutation.createWalletLoginChallenge": Public(),
    "Mutation.loginWithWallet": Public(),
    "Organization.wallets": MemberOfSource(Permission.EARNINGS_READ),
}
