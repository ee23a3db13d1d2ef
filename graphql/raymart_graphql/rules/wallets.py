"""Who may use: wallets of providers, and what they see of their payouts."""

from collections.abc import Mapping

from raymart_core.ids import Prefix
from raymart_graphql.permissions import MemberOf, MemberOfSource, Public, Rule
from raymart_marketplace.accounts.permissions import Permission

_PAYOUTS = MemberOf("organization_id", Prefix.ORGANIZATION, Permission.PAYOUTS_MANAGE)

_OF_PROVIDER = MemberOf("provider_id", Prefix.PROVIDER, Permission.PAYOUTS_MANAGE)

WALLETS_RULES: Mapping[str, Rule] = {
    "Mutation.createWalletChallenge": _PAYOUTS,
    "Mutation.proveWallet": _PAYOUTS,
    "Mutation.withdrawWallet": _PAYOUTS,
    "Mutation.createWalletLoginChallenge": Public(),
    "Mutation.loginWithWallet": Public(),
    "Mutation.choosePayoutWallet": _OF_PROVIDER,
    "Mutation.cancelPayoutWallet": _OF_PROVIDER,
    "Provider.payoutWallet": MemberOfSource(Permission.EARNINGS_READ),
    "Provider.payoutWallets": MemberOfSource(Permission.EARNINGS_READ),
    "Provider.earningsByPeriod": MemberOfSource(Permission.EARNINGS_READ),
    "Provider.payouts": MemberOfSource(Permission.EARNINGS_READ),
    "Provider.nextPayout": MemberOfSource(Permission.EARNINGS_READ),
    "Provider.selfBillingInvoices": MemberOfSource(Permission.BILLING_READ),
    "Organization.wallets": MemberOfSource(Permission.EARNINGS_READ),
}
