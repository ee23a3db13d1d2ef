"""What a change asks of a person besides their role: a verified address, and for some a fresh second factor.

Every mutation and subscription that is not open to anybody asks for a verified address unless it is in
`BEFORE_VERIFICATION`, so nothing new that
touches money or inference is open to an address that nobody has shown to be theirs. API keys have no address.

Where the setting `require_second_factor` is on, every mutation of the platform's people, and those of `SENSITIVE`, ask for a
session whose second factor was proven within `second_factor_fresh_s`. An operator's token has no session and never passes.
"""

from datetime import timedelta
from typing import Final

from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension

from raymart_core.clock import now
from raymart_graphql.context import Info, Operation
from raymart_graphql.permissions import Platform, Public, Rule, resolve_next
from raymart_marketplace.accounts.errors import EmailNotVerified, SecondFactorRequired

BEFORE_VERIFICATION: Final = frozenset(
    {
        "Mutation.revokeSession",
        "Mutation.revokeOtherSessions",
        "Mutation.logout",
        "Mutation.resendVerification",
        "Mutation.changePassword",
    }
)
"""What a person may do whose address is not verified yet, besides what is open to anybody: get out, and verify it."""


SENSITIVE: Final = frozenset(
    {
        "Mutation.proveWallet",
        "Mutation.withdrawWallet",
        "Mutation.choosePayoutWallet",
        "Mutation.cancelPayoutWallet",
        "Mutation.eraseOrganization",
    }
)
"""Where a provider's money goes, and an organization's end. Everything that the platform's people change asks for a second factor besides."""


def assurance_of(name: str, rule: Rule) -> "Assurance | None":
    """What the root field `name` ("Mutation.grantCredit") asks for; None when that is nothing.

    What is open to anybody, such as `login`, asks nothing of somebody who comes with stale credentials.
    """
    is_change = name.startswith(("Mutation.", "Subscription.")) and not isinstance(rule, Public)
    if not is_change or name in BEFORE_VERIFICATION:
        return None
    return Assurance(needs_second_factor=isinstance(rule, Platform) or name in SENSITIVE)


class Assurance(FieldExtension):
    """Stands between a field's rule and its resolver."""

    def __init__(self, *, needs_second_factor: bool) -> None:
        self._needs_second_factor = needs_second_factor

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Info, **kwargs: object
    ) -> object:
        """Ask, then go on."""
        await check(info.context, needs_second_factor=self._needs_second_factor)
        return await resolve_next(next_(source, info, **kwargs))


async def check(operation: Operation, *, needs_second_factor: bool) -> None:
    """Raises: EmailNotVerified, SecondFactorRequired.

    Nobody and the holder of a key pass: what those may do, the rule says, and none that asks for a second factor.
    """
    if operation.client.authorization is None:
        return
    if (await operation.principal()).user_id is None:
        return
    person = await operation.services.authenticator.person(operation.client.authorization)
    if not person.is_verified:
        raise EmailNotVerified
    settings = operation.services.settings
    if needs_second_factor and settings.require_second_factor:
        proven_at = person.second_factor_at
        fresh = timedelta(seconds=settings.second_factor_fresh_s)
        if proven_at is None or now() - proven_at > fresh:
            raise SecondFactorRequired(fresh_s=settings.second_factor_fresh_s)
