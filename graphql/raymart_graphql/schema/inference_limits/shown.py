"""What fields of organizations, projects and keys show of their limits."""

from uuid import UUID

from raymart_graphql.context import Info
from raymart_graphql.schema.inference_limits.types import InferenceLimits
from raymart_marketplace.gateway.rate_limits.models import LimitSetter


async def limits_set_by_customer(info: Info, scope_id: UUID) -> InferenceLimits | None:
    """What its members have set; None when that is nothing."""
    limits = await info.context.loaders.inference_limits.limits_set.load((scope_id, LimitSetter.CUSTOMER))
    return InferenceLimits.of(limits) if limits else None


async def allowance_of_organization(info: Info, organization_id: UUID) -> InferenceLimits:
    """What the marketplace has set for it, or its default."""
    limits = await info.context.loaders.inference_limits.limits_set.load(
        (organization_id, LimitSetter.MARKETPLACE)
    )
    return InferenceLimits.of(limits or info.context.services.limit_book.organization_default)
