"""Setting and removing limits of inference."""

from uuid import UUID

import strawberry
import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.inference_limits.types import (
    PREFIX_OF_LEVEL,
    InferenceLimits,
    RemoveInferenceAllowanceInput,
    RemoveInferenceAllowancePayload,
    RemoveInferenceLimitsInput,
    RemoveInferenceLimitsPayload,
    SetInferenceAllowanceInput,
    SetInferenceAllowancePayload,
    SetInferenceLimitsInput,
    SetInferenceLimitsPayload,
    level_of,
)
from raymart_marketplace.gateway.rate_limits.limits import Level, Limits
from raymart_marketplace.gateway.rate_limits.models import LimitSetter
from raymart_marketplace.gateway.rate_limits.service import SetLimit, remove_limit, set_limit

log = structlog.get_logger()


@strawberry.type
class InferenceLimitMutation:
    """Root fields of the domain."""

    @mutation(
        "Limit what an organization, a project or an API key may ask of models; takes effect within seconds."
    )
    async def set_inference_limits(
        self, info: Info, input_: SetInferenceLimitsInput
    ) -> SetInferenceLimitsPayload:
        """A repeat replaces all that was set."""
        level, scope_id = _scope(input_.scope_id)
        limits = await _set(info, level, scope_id, LimitSetter.CUSTOMER, input_.limits.limits)
        return SetInferenceLimitsPayload(inference_limits=limits)

    @mutation("Limit it no more.")
    async def remove_inference_limits(
        self, info: Info, input_: RemoveInferenceLimitsInput
    ) -> RemoveInferenceLimitsPayload:
        """A user error when nothing is limited."""
        level, scope_id = _scope(input_.scope_id)
        await _remove(info, level, scope_id, LimitSetter.CUSTOMER)
        return RemoveInferenceLimitsPayload(removed=True)

    @mutation("Allow one organization more or less than the marketplace's default. For administrators.")
    async def set_inference_allowance(
        self, info: Info, input_: SetInferenceAllowanceInput
    ) -> SetInferenceAllowancePayload:
        """A repeat replaces all that was set; what is left out is not limited."""
        scope_id = parse_global_id(Prefix.ORGANIZATION, input_.organization_id, field="organization_id")
        limits = await _set(info, Level.ORGANIZATION, scope_id, LimitSetter.MARKETPLACE, input_.limits.limits)
        return SetInferenceAllowancePayload(inference_allowance=limits)

    @mutation("Let the default be in force for an organization again. For administrators.")
    async def remove_inference_allowance(
        self, info: Info, input_: RemoveInferenceAllowanceInput
    ) -> RemoveInferenceAllowancePayload:
        """A user error when it has no allowance of its own."""
        scope_id = parse_global_id(Prefix.ORGANIZATION, input_.organization_id, field="organization_id")
        await _remove(info, Level.ORGANIZATION, scope_id, LimitSetter.MARKETPLACE)
        return RemoveInferenceAllowancePayload(removed=True)


def _scope(text: str) -> tuple[Level, UUID]:
    level = level_of(text)
    return level, parse_global_id(PREFIX_OF_LEVEL[level], text, field="scope_id")


async def _set(
    info: Info, level: Level, scope_id: UUID, setter: LimitSetter, limits: Limits
) -> InferenceLimits:
    principal = await info.context.principal()
    asked = SetLimit(level=level, scope_id=scope_id, setter=setter, limits=limits)
    async with info.context.writing() as session:
        await set_limit(session, asked, actor_id=principal.user_id)
    await _make_live(info)
    return InferenceLimits.of(limits)


async def _remove(info: Info, level: Level, scope_id: UUID, setter: LimitSetter) -> None:
    principal = await info.context.principal()
    async with info.context.writing() as session:
        await remove_limit(session, level=level, scope_id=scope_id, setter=setter, actor_id=principal.user_id)
    await _make_live(info)


async def _make_live(info: Info) -> None:
    """Let the next request here see it; other processes read it by themselves."""
    try:
        await info.context.services.limit_book.refresh()
    except (SQLAlchemyError, OSError) as error:
        # It is committed; the next reading, within seconds, finds it.
        log.warning("limits.refresh_delayed", error=type(error).__name__)
