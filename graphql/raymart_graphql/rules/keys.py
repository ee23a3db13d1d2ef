"""Who may use: API keys, and what their holders see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raymart_core.errors import Forbidden, NotAuthenticated
from raymart_core.ids import Prefix
from raymart_graphql.context import Operation
from raymart_graphql.permissions import MemberOf, MemberOfSource, Rule
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.accounts.scopes import KeyScope


@dataclass(frozen=True, slots=True)
class HolderOfKey:
    """The holder of an API key, with `scope` where one is needed; no person, whatever their role."""

    scope: KeyScope | None = None

    async def check(self, operation: Operation, source: object, arguments: Mapping[str, Any]) -> None:
        """Refuses strangers, people, and keys without the scope."""
        principal = await operation.principal()
        if principal.caller is None:
            if principal.user_id is None:
                raise NotAuthenticated("send `Authorization: Bearer rm_live_...`, an API key")
            raise Forbidden("this is for API keys; `viewer` shows a person's own")
        if self.scope is not None:
            principal.caller.require(self.scope)


KEYS_RULES: Mapping[str, Rule] = {
    "Query.callingKey": HolderOfKey(),
    "CallingKey.usageByDay": HolderOfKey(KeyScope.USAGE_READ),
    "CallingKey.projectKeys": HolderOfKey(KeyScope.KEYS_READ),
    "Organization.apiKeys": MemberOfSource(Permission.KEYS_READ),
    "Organization.serviceAccounts": MemberOfSource(Permission.MEMBERS_READ),
    "ServiceAccount.apiKeys": MemberOfSource(Permission.KEYS_READ),
    "Mutation.createServiceAccount": MemberOf(
        "organization_id", Prefix.ORGANIZATION, Permission.MEMBERS_MANAGE
    ),
    "Mutation.disableServiceAccount": MemberOf(
        "service_account_id", Prefix.SERVICE_ACCOUNT, Permission.MEMBERS_MANAGE
    ),
    "Mutation.createApiKey": MemberOf("project_id", Prefix.PROJECT, Permission.KEYS_MANAGE),
    "Mutation.updateApiKey": MemberOf("api_key_id", Prefix.API_KEY, Permission.KEYS_MANAGE),
    "Mutation.rotateApiKey": MemberOf("api_key_id", Prefix.API_KEY, Permission.KEYS_MANAGE),
    # A decision about the words of everybody who uses the key: not each developer's.
    "Mutation.setPromptRetention": MemberOf("api_key_id", Prefix.API_KEY, Permission.ORGANIZATION_MANAGE),
    "Mutation.revokeApiKey": MemberOf("api_key_id", Prefix.API_KEY, Permission.KEYS_MANAGE),
}
