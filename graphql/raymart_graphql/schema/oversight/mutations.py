"""Suspending, flagging and switching."""

from collections.abc import Mapping
from uuid import UUID

import strawberry
import structlog
from sqlalchemy.exc import SQLAlchemyError

from raymart_core.errors import Forbidden, InvalidRequest
from raymart_core.ids import Prefix, parse
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.oversight.enums import SubjectKind
from raymart_graphql.schema.oversight.inputs import (
    ClearUsageFlagInput,
    FlagUsageInput,
    LiftSuspensionInput,
    SetFeatureSwitchInput,
    SuspendApiKeyInput,
    SuspendOrganizationInput,
    SuspendProviderInput,
    SuspendUserInput,
)
from raymart_graphql.schema.oversight.payloads import (
    ClearUsageFlagPayload,
    FlagUsagePayload,
    LiftSuspensionPayload,
    SetFeatureSwitchPayload,
    SuspendApiKeyPayload,
    SuspendOrganizationPayload,
    SuspendProviderPayload,
    SuspendUserPayload,
)
from raymart_graphql.schema.oversight.types import FeatureSwitch, Suspension, UsageFlag
from raymart_graphql.schema.pricing.reprice import reprice
from raymart_marketplace.accounts.permissions import Permission
from raymart_marketplace.oversight import suspension, switches, usage_flags

log = structlog.get_logger()

_KINDS: Mapping[str, SubjectKind] = {prefix.value: kind for kind, prefix in suspension.PREFIXES.items()}


@strawberry.type
class OversightMutation:
    """Root fields of the domain."""

    @mutation(
        "Serve nothing more to an organization, whichever key asks; what runs is finished. For administrators."
    )
    async def suspend_organization(
        self, info: Info, input_: SuspendOrganizationInput
    ) -> SuspendOrganizationPayload:
        """In force here at once, and in other processes within seconds."""
        made = await _suspend(
            info, SubjectKind.ORGANIZATION, input_.organization_id, "organization_id", input_.reason
        )
        return SuspendOrganizationPayload(suspension=made)

    @mutation("Keep a person from signing in, and end their sessions. For administrators.")
    async def suspend_user(self, info: Info, input_: SuspendUserInput) -> SuspendUserPayload:
        """Disables the account."""
        made = await _suspend(info, SubjectKind.USER, input_.user_id, "user_id", input_.reason)
        return SuspendUserPayload(suspension=made)

    @mutation("Send a provider no new requests, and pay it nothing meanwhile. For administrators.")
    async def suspend_provider(self, info: Info, input_: SuspendProviderInput) -> SuspendProviderPayload:
        """Takes its offers out of routing."""
        made = await _suspend(info, SubjectKind.PROVIDER, input_.provider_id, "provider_id", input_.reason)
        return SuspendProviderPayload(suspension=made)

    @mutation("Refuse an API key until this is lifted. For administrators.")
    async def suspend_api_key(self, info: Info, input_: SuspendApiKeyInput) -> SuspendApiKeyPayload:
        """Unlike revoking, it can be lifted."""
        made = await _suspend(info, SubjectKind.API_KEY, input_.api_key_id, "api_key_id", input_.reason)
        return SuspendApiKeyPayload(suspension=made)

    @mutation("End a suspension; the subject is again what it was before. For administrators.")
    async def lift_suspension(self, info: Info, input_: LiftSuspensionInput) -> LiftSuspensionPayload:
        """Whichever kind it is."""
        kind, subject_id = _subject(input_.subject_id)
        actor_id = await _person(info)
        principal = await info.context.principal()
        if kind is SubjectKind.USER and not principal.may_in_market(Permission.PLATFORM_ACCOUNTS_MANAGE):
            raise Forbidden("people are let in again by those who may disable them")
        async with info.context.writing() as session:
            row = await suspension.lift(session, kind, subject_id, reason=input_.reason, actor_id=actor_id)
        await _make_live(info, kind, subject_id)
        return LiftSuspensionPayload(suspension=Suspension.of(row))

    @mutation("Keep back what was earned by this usage until somebody has looked at it. For administrators.")
    async def flag_usage(self, info: Info, input_: FlagUsageInput) -> FlagUsagePayload:
        """All of them or none; one that is flagged already keeps its flag."""
        ids = [parse_global_id(Prefix.REQUEST, text, field="request_ids") for text in input_.request_ids]
        async with info.context.writing() as session:
            rows = await usage_flags.flag_usage(
                session, ids, reason=input_.reason, actor_id=await _person(info)
            )
        return FlagUsagePayload(flags=[UsageFlag.of(row) for row in rows])

    @mutation("End a flag on usage. For administrators.")
    async def clear_usage_flag(self, info: Info, input_: ClearUsageFlagInput) -> ClearUsageFlagPayload:
        """It stays in the list of those that were."""
        request_id = parse_global_id(Prefix.REQUEST, input_.request_id, field="request_id")
        async with info.context.writing() as session:
            row = await usage_flags.clear_flag(
                session, request_id, reason=input_.reason, actor_id=await _person(info)
            )
        return ClearUsageFlagPayload(flag=UsageFlag.of(row))

    @mutation("Switch a feature on or off, for everybody or for some. For administrators.")
    async def set_feature_switch(self, info: Info, input_: SetFeatureSwitchInput) -> SetFeatureSwitchPayload:
        """In force here at once, and in other processes within seconds."""
        ids = [
            parse_global_id(Prefix.ORGANIZATION, text, field="organization_ids")
            for text in input_.organization_ids
        ]
        async with info.context.writing() as session:
            await switches.set_switch(
                session,
                input_.feature,
                state=input_.state,
                percentage=input_.percentage,
                organization_ids=set(ids),
                actor_id=await _person(info),
            )
            found = await switches.load_switches(session)
        await _refresh(info)
        return SetFeatureSwitchPayload(feature_switch=FeatureSwitch.of(input_.feature, found[input_.feature]))


async def _suspend(info: Info, kind: SubjectKind, text: str, field: str, reason: str) -> Suspension:
    subject_id = parse_global_id(suspension.PREFIXES[kind], text, field=field)
    actor_id = await _person(info)
    async with info.context.writing() as session:
        row = await suspension.suspend(session, kind, subject_id, reason=reason, actor_id=actor_id)
    await _make_live(info, kind, subject_id)
    return Suspension.of(row)


async def _make_live(info: Info, kind: SubjectKind, subject_id: UUID) -> None:
    """Let the next request here see it; other processes read it by themselves."""
    if kind is SubjectKind.PROVIDER:
        await reprice(info.context.services.directory)
        return
    if kind is SubjectKind.USER:
        info.context.services.authenticator.forget_user(subject_id)
    await _refresh(info)


async def _refresh(info: Info) -> None:
    try:
        await info.context.services.controls.refresh()
    except (SQLAlchemyError, OSError) as error:
        # It is committed; the next reading, within seconds, finds it.
        log.warning("controls.refresh_delayed", error=type(error).__name__)


def _subject(text: str) -> tuple[SubjectKind, UUID]:
    """What an id names. Raises: InvalidRequest for what cannot be suspended."""
    kind = _KINDS.get(text.partition("_")[0])
    if kind is None:
        raise InvalidRequest(
            f"{text[:60]!r} names nothing that can be suspended; send an org_, user_, prov_ or key_ id",
            param="subject_id",
        )
    try:
        return kind, parse(suspension.PREFIXES[kind], text)
    except ValueError as error:
        raise InvalidRequest(str(error)[:200], param="subject_id") from None


async def _person(info: Info) -> UUID:
    principal = await info.context.principal()
    assert principal.user_id is not None, "the rule lets only people in"
    return principal.user_id
