"""Who may do what: the one table of roles and permissions.

Services, GraphQL's rules, the REST routes and API keys all ask here; nothing else compares roles. A role means something
only in an organization of a kind: (kind, role) pairs that are not in the table may do nothing, and are not given.

`raymart permissions` prints the table for people; `docs/permissions.md` is that output, compared by a test.
"""

from collections.abc import Mapping
from enum import StrEnum

from raymart_marketplace.accounts.models import OrganizationKind, Role


class Permission(StrEnum):
    """One thing that somebody may or may not do. Those named platform.* are over the whole market."""

    ORGANIZATION_READ = "organization.read"
    """See the organization, its projects, balance, budgets and whether it may spend."""
    ORGANIZATION_MANAGE = "organization.manage"
    """Rename the organization; make, rename and archive its projects."""
    ORGANIZATION_OWN = "organization.own"
    """Hand the organization over to somebody else, or end it."""
    MEMBERS_READ = "members.read"
    """See who its members are, who is invited, and who of the platform may look in."""
    MEMBERS_MANAGE = "members.manage"
    """Invite and remove members and change their roles, never to more than one's own."""
    KEYS_READ = "keys.read"
    """See its API keys; never the keys themselves."""
    KEYS_MANAGE = "keys.manage"
    """Make and revoke API keys."""
    INFER = "infer"
    """Spend its money on inference."""
    USAGE_READ = "usage.read"
    """See its requests and what they used and cost."""
    PROMPTS_READ = "prompts.read"
    """Read prompts and completions that a key asked to be kept; nobody of the platform may."""
    BUDGETS_MANAGE = "budgets.manage"
    """Limit what it, its projects and its keys may spend."""
    BILLING_READ = "billing.read"
    """See its statement, invoices, refunds, deposits and billing profile."""
    BILLING_MANAGE = "billing.manage"
    """Top up, and say to whom invoices are made out and below which balance to warn."""
    AUDIT_READ = "audit.read"
    """See who changed what in it."""
    EXPORTS_READ = "exports.read"
    """Have a copy of all that is its own made, and download it; nobody of the platform may."""
    SUPPLY_READ = "supply.read"
    """See a provider's machines, pools, and how far down its prices go."""
    NODES_MANAGE = "nodes.manage"
    """Bring machines in and take them out."""
    OFFERS_MANAGE = "offers.manage"
    """Set what a provider sells and asks for it."""
    EARNINGS_READ = "earnings.read"
    """See what a provider earned."""
    PAYOUTS_MANAGE = "payouts.manage"
    """Say to which wallet earnings go."""
    PLATFORM_MARKET_READ = "platform.market.read"
    """See caps, fees, drafts and the whole market's usage; nothing of one tenant."""
    PLATFORM_MARKET_MANAGE = "platform.market.manage"
    """Suspend providers, machines and customers' access; switch features; publish, withdraw and roll back models."""
    PLATFORM_PRICES_MANAGE = "platform.prices.manage"
    """Set rate cards, caps and fees."""
    PLATFORM_LEDGER_READ = "platform.ledger.read"
    """See all accounts, transfers, snapshots and checks of the books."""
    PLATFORM_LEDGER_WRITE = "platform.ledger.write"
    """Grant credit, adjust balances and reverse transfers."""
    PLATFORM_BILLING_READ = "platform.billing.read"
    """See every customer's invoices, refunds, deposits and disputes."""
    PLATFORM_BILLING_MANAGE = "platform.billing.manage"
    """Draft, finalize and void documents; settle held deposits; block customers from spending."""
    PLATFORM_REFUND = "platform.refund"
    """Give money back."""
    PLATFORM_PAYOUTS_READ = "platform.payouts.read"
    """See batches of payouts, whom they pay, how they are sent, and the rules about them."""
    PLATFORM_PAYOUTS_MANAGE = "platform.payouts.manage"
    """Plan, approve, hold, split and cancel batches; stop payouts, and set their rules."""
    PLATFORM_WORK_READ = "platform.work.read"
    """See background work and its runs."""
    PLATFORM_WORK_MANAGE = "platform.work.manage"
    """Retry and cancel background work."""
    PLATFORM_ACCOUNTS_MANAGE = "platform.accounts.manage"
    """Disable people and end their sessions."""
    PLATFORM_AUDIT_READ = "platform.audit.read"
    """See who changed what, of all tenants."""
    PLATFORM_SUPPORT = "platform.support"
    """Open a time-limited look into one tenant, with a reason that its owners see."""


P = Permission

PLATFORM_PERMISSIONS = frozenset(item for item in Permission if item.value.startswith("platform."))
"""Those over the whole market."""
TENANT_READS = frozenset(
    {
        P.ORGANIZATION_READ,
        P.MEMBERS_READ,
        P.KEYS_READ,
        P.USAGE_READ,
        P.BILLING_READ,
        P.AUDIT_READ,
        P.SUPPLY_READ,
        P.EARNINGS_READ,
    }
)
"""All that can be seen of one tenant from outside, and nothing that changes it."""
PRIVATE_READS = frozenset({P.PROMPTS_READ, P.EXPORTS_READ})
"""What only the tenant's own people can see; no role of the platform's reaches it, and no grant of support."""

_SUPPLY = frozenset({P.SUPPLY_READ, P.NODES_MANAGE, P.OFFERS_MANAGE, P.EARNINGS_READ, P.PAYOUTS_MANAGE})
_OWNER = frozenset(Permission) - PLATFORM_PERMISSIONS - _SUPPLY
_ADMIN = _OWNER - {P.ORGANIZATION_OWN}
_ANY = frozenset({P.ORGANIZATION_READ, P.MEMBERS_READ})

TABLE: Mapping[OrganizationKind, Mapping[Role, frozenset[Permission]]] = {
    OrganizationKind.CUSTOMER: {
        Role.OWNER: _OWNER,
        Role.ADMIN: _ADMIN,
        Role.DEVELOPER: _ANY | {P.KEYS_READ, P.KEYS_MANAGE, P.INFER, P.USAGE_READ, P.PROMPTS_READ},
        Role.BILLING: _ANY | {P.USAGE_READ, P.BILLING_READ, P.BILLING_MANAGE, P.BUDGETS_MANAGE},
        Role.VIEWER: _ANY | {P.KEYS_READ, P.USAGE_READ, P.BILLING_READ},
    },
    # A provider may buy as well as sell: its owners have a customer's rights besides their own.
    OrganizationKind.PROVIDER: {
        Role.OWNER: _OWNER | _SUPPLY,
        Role.ADMIN: (_ADMIN | _SUPPLY) - {P.PAYOUTS_MANAGE},
        Role.OPERATOR: _ANY | {P.SUPPLY_READ, P.NODES_MANAGE, P.OFFERS_MANAGE, P.EARNINGS_READ},
        Role.VIEWER: _ANY | {P.KEYS_READ, P.USAGE_READ, P.BILLING_READ, P.SUPPLY_READ, P.EARNINGS_READ},
    },
    OrganizationKind.PLATFORM: {
        Role.OWNER: _OWNER | PLATFORM_PERMISSIONS,
        Role.ADMIN: _ADMIN | PLATFORM_PERMISSIONS,
        Role.FINANCE: _ANY
        | {
            P.PLATFORM_MARKET_READ,
            P.PLATFORM_LEDGER_READ,
            P.PLATFORM_LEDGER_WRITE,
            P.PLATFORM_BILLING_READ,
            P.PLATFORM_BILLING_MANAGE,
            P.PLATFORM_REFUND,
            P.PLATFORM_PAYOUTS_READ,
            P.PLATFORM_PAYOUTS_MANAGE,
        },
        Role.SUPPORT: _ANY | {P.PLATFORM_MARKET_READ, P.PLATFORM_WORK_READ, P.PLATFORM_SUPPORT},
    },
}
"""What a member of an organization of a kind may do there, by role."""

REACH: Mapping[Role, frozenset[Permission]] = {
    Role.OWNER: TENANT_READS,
    Role.ADMIN: TENANT_READS,
    Role.FINANCE: frozenset({P.ORGANIZATION_READ, P.USAGE_READ, P.BILLING_READ, P.EARNINGS_READ}),
    # Support sees a tenant only by an open grant (`support_access`), and then what `TENANT_READS` says.
    Role.SUPPORT: frozenset(),
}
"""What the platform's people may do in every organization. Reading only: nobody acts in a tenant's name."""

KEY_PERMISSIONS = frozenset({P.INFER})
"""What an API key may do in its project's organization unless its scopes say otherwise."""


def permissions_of(kind: OrganizationKind, role: Role) -> frozenset[Permission]:
    """What a member in `role` may do in their own organization of `kind`; nothing for a pair that is not offered."""
    return TABLE[kind].get(role, frozenset())


def reach_of(kind: OrganizationKind, role: Role) -> frozenset[Permission]:
    """What a member in `role` of an organization of `kind` may do in every other organization."""
    return REACH.get(role, frozenset()) if kind is OrganizationKind.PLATFORM else frozenset()


def grantable_roles(kind: OrganizationKind, role: Role) -> frozenset[Role]:
    """Roles that a member in `role` may give and take: none that may do what they may not themselves.

    Compared by what roles may do, not by rank: an owner gives every role, an admin every one but owner's, and who may
    not manage members none.
    """
    own = permissions_of(kind, role)
    if P.MEMBERS_MANAGE not in own:
        return frozenset()
    return frozenset(given for given, permissions in TABLE[kind].items() if permissions <= own)


def roles_with(permission: Permission) -> frozenset[tuple[OrganizationKind, Role]]:
    """Every (kind, role) whose members have `permission` in their own organization, for conditions in SQL."""
    return frozenset(
        (kind, role)
        for kind, roles in TABLE.items()
        for role, permissions in roles.items()
        if permission in permissions
    )
