"""Who may use: log-ins."""

from collections.abc import Mapping

from raymart_graphql.permissions import Public, Rule, SignedIn

SESSION_RULES: Mapping[str, Rule] = {
    "Mutation.login": Public(),
    "Mutation.refreshSession": Public(),  # The refresh token is the credential.
    "Mutation.completeLogin": Public(),  # The challenge and a code are the credentials.
    "Mutation.beginTotpEnrolment": SignedIn(),
    "Mutation.confirmTotpEnrolment": SignedIn(),
    "Mutation.disableTotp": SignedIn(),
    "Mutation.confirmSecondFactor": SignedIn(),
    "Mutation.signUp": Public(),
    "Mutation.verifyEmail": Public(),  # The token of a mail, and a password, are the credentials.
    "Mutation.resendVerification": SignedIn(),
    "Mutation.requestPasswordReset": Public(),
    "Mutation.resetPassword": Public(),
    "Mutation.changePassword": SignedIn(),
    "Mutation.revokeSession": SignedIn(),  # The service looks among the viewer's own.
    "Mutation.revokeOtherSessions": SignedIn(),
    "Mutation.logout": SignedIn(),
}
