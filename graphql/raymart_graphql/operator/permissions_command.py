"""`raymart permissions`: which role may do what, as `docs/permissions.md` has it."""

import typer

from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.accounts.permissions import (
    KEY_PERMISSIONS,
    PLATFORM_PERMISSIONS,
    REACH,
    TABLE,
    TENANT_READS,
    Permission,
)

_HEADS = {
    OrganizationKind.CUSTOMER: "In a customer's organization",
    OrganizationKind.PROVIDER: "In a provider's organization",
    OrganizationKind.PLATFORM: "In the platform's organization",
}


def permissions() -> None:
    """Print which role may do what, as Markdown."""
    typer.echo(page(), nl=False)


def page() -> str:
    """The table of `accounts/permissions.py` for people."""
    sections = [
        "# Who may do what",
        (
            "Printed by `raymart permissions`; the table itself is `raymart_marketplace/accounts/permissions.py`, which"
            " services, GraphQL and API keys ask. A role that a kind of organization does not list here is not given in it."
        ),
    ]
    for kind, head in _HEADS.items():
        shown = [item for item in Permission if kind is OrganizationKind.PLATFORM or not _is_platforms(item)]
        offered = [role for role in Role if role in TABLE[kind]]
        columns = [(role.value, TABLE[kind][role]) for role in offered]
        sections += [f"## {head}", _matrix(shown, columns)]
    reads = [item for item in Permission if item in TENANT_READS]
    reach = [(role.value, granted) for role, granted in REACH.items()]
    sections += [
        "## What the platform's people see of every organization",
        "Support sees one organization at a time, while a grant for it is open: then all of these, and changes nothing.",
        _matrix(reads, reach),
        "## What an API key may do",
        "In its project's organization, unless its scopes say otherwise: "
        + ", ".join(f"`{item.value}`" for item in sorted(KEY_PERMISSIONS))
        + ".",
    ]
    return "\n\n".join(sections) + "\n"


def _is_platforms(permission: Permission) -> bool:
    return permission in PLATFORM_PERMISSIONS


def _matrix(shown: list[Permission], columns: list[tuple[str, frozenset[Permission]]]) -> str:
    """A Markdown table: a line per permission, a column per role; permissions that nobody has are left out."""
    names = [name for name, _ in columns]
    lines = ["| permission | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for permission in shown:
        marks = ["x" if permission in granted else "" for _, granted in columns]
        if any(marks):
            lines.append(f"| `{permission.value}` | " + " | ".join(marks) + " |")
    return "\n".join(lines)
