"""Who may read: the audit log."""

from collections.abc import Mapping

from raymart_graphql.permissions import MemberOfSource, Platform, Rule
from raymart_marketplace.accounts.permissions import Permission

AUDIT_RULES: Mapping[str, Rule] = {
    "Query.auditLog": Platform(Permission.PLATFORM_AUDIT_READ),
    "Organization.auditLog": MemberOfSource(Permission.AUDIT_READ),
}
