"""What a change asks of a person besides their role: a verified address, and for some a fresh second factor.

Every mutation and subscription that is not open to anybody asks for a verified address unless it is in
`BEFORE_VERIFICATION`, so nothing new that
touches money or inference is open to an address that nobody has shown to be theirs. API keys have no address.
"""

from typing import Final

from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension

from raymart_graphql.context import Info, Operation
from raymart_graphql.permissions import Public, Rule, resolve_next
from raymart_marketplace.accounts.errors import EmailNotVerified

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


def assurance_of(name: str, rule: Rule) -> "Assurance | None":
    """What the root field `name` ("Mutation.grantCredit") asks for; None when that is nothing.

    What is open to anybody, such as `login`, asks nothing of somebody who comes with stale credentials.
    """
    is_change = name.startswith(("Mutation.", "Subscription.")) and not isinstance(rule, Public)
    return Assurance() if is_change and name not in BEFORE_VERIFICATION else None


class Assurance(FieldExtension):
    """Stands between a field's rule and its resolver."""

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Info, **kwargs: object
    ) -> object:
        """Ask, then go on."""
        await check(info.context)
        return await resolve_next(next_(source, info, **kwargs))


async def check(operation: Operation) -> None:
    """Raises: EmailNotVerified. Nobody and the holder of a key pass: what those may do, the rule says."""
    if operation.client.authorization is None:
        return
    if (await operation.principal()).user_id is None:
        return
    person = await operation.services.authenticator.person(operation.client.authorization)
    if not person.is_verified:
        raise EmailNotVerified
