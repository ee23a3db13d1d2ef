"""Who may use: logins at OpenID providers."""

from collections.abc import Mapping

from raymart_graphql.permissions import Public, Rule, SignedIn

OIDC_RULES: Mapping[str, Rule] = {
    "Query.loginProviders": Public(),
    "Mutation.exchangeLoginCode": Public(),
    "Mutation.linkOidcIdentity": SignedIn(),
    "Mutation.unlinkOidcIdentity": SignedIn(),
}
