"""An API key as it is looked up for a request: everything that its caller is known by, in one statement."""

from typing import Any

from sqlalchemy import Select, case, func, or_, select

from raymart_marketplace.accounts.models import ApiKey, Organization, Project, ServiceAccount


def living_key(key_hash: bytes) -> Select[*tuple[Any, ...]]:
    """The key whose present or former secret has this hash, with what it belongs to and how long it is still good."""
    is_former = ApiKey.former_key_hash == key_hash
    former_ends_at = case((is_former, ApiKey.former_ends_at))
    # Of the two ends the sooner; LEAST ignores nulls.
    ends_at = func.least(ApiKey.expires_at, former_ends_at)
    left_s = func.extract("epoch", ends_at - func.clock_timestamp())
    return (
        select(
            ApiKey.id,
            Project.id,
            Project.organization_id,
            ApiKey.scopes,
            ApiKey.models,
            ApiKey.prompt_retention_days > 0,
            func.coalesce(ApiKey.answer_cache_s, Project.answer_cache_s),
            Organization.kind,
            ServiceAccount.role,
            left_s,
        )
        .join(Project, Project.id == ApiKey.project_id)
        .join(Organization, Organization.id == Project.organization_id)
        .outerjoin(ServiceAccount, ServiceAccount.id == ApiKey.service_account_id)
        .where(
            or_(ApiKey.key_hash == key_hash, is_former),
            ServiceAccount.disabled_at.is_(None),
            ApiKey.revoked_at.is_(None),
            or_(ends_at.is_(None), ends_at > func.clock_timestamp()),
        )
    )
