"""Which features can be switched, and for whom each is on: a pure function of the switch and the organization."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest
from raymart_marketplace.oversight.models import FeatureSwitch, SwitchState

log = structlog.get_logger()

ORGANIZATIONS_MAX = 1_000


class Feature(StrEnum):
    """What can be switched."""

    INFERENCE = "inference_enabled"
    """New requests are served. Off: they are refused with 503 before any money is held; running ones end as usual."""
    SIGNUPS = "signups_open"
    """Strangers may make accounts of their own."""
    INTROSPECTION = "graphql_introspection"
    """GraphQL describes itself outside of development too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A switch as it stands."""

    state: SwitchState
    percentage: int = 0
    organization_ids: frozenset[UUID] = frozenset()


DEFAULTS: Mapping[Feature, Switch] = {
    Feature.INFERENCE: Switch(state=SwitchState.ON),
    Feature.SIGNUPS: Switch(state=SwitchState.ON),
    Feature.INTROSPECTION: Switch(state=SwitchState.OFF),
}
"""How each stands until somebody sets it."""
_BY_KEY = {feature.value: feature for feature in Feature}


def is_on(feature: Feature, switch: Switch, organization_id: UUID | None) -> bool:
    """Whether `feature` is on for the organization; for nobody in particular only `on` is on.

    A share is taken by the hash of feature and organization: the same ones stay in while it grows, and other ones are
    the first of another feature.
    """
    if switch.state is SwitchState.ON:
        return True
    if organization_id is None or switch.state is SwitchState.OFF:
        return False
    if switch.state is SwitchState.ORGANIZATIONS:
        return organization_id in switch.organization_ids
    digest = hashlib.sha256(feature.value.encode() + organization_id.bytes).digest()
    return int.from_bytes(digest[:8]) % 100 < switch.percentage


async def load_switches(session: AsyncSession) -> Mapping[Feature, Switch]:
    """Every feature's switch; rows of features that the code no longer knows are passed over."""
    found = dict(DEFAULTS)
    for row in await session.scalars(select(FeatureSwitch)):
        feature = _BY_KEY.get(row.key)
        if feature is not None:
            found[feature] = Switch(
                state=row.state,
                percentage=row.percentage,
                organization_ids=frozenset(row.organization_ids),
            )
    return found


async def set_switch(
    session: AsyncSession,
    feature: Feature,
    *,
    state: SwitchState,
    percentage: int,
    organization_ids: Collection[UUID],
    actor_id: UUID,
) -> None:
    """Set the switch; other processes follow within seconds. Raises: InvalidRequest."""
    if not 0 <= percentage <= 100:
        raise InvalidRequest(f"{percentage} is not between 0 and 100", param="percentage")
    if len(organization_ids) > ORGANIZATIONS_MAX:
        raise InvalidRequest(
            f"{len(organization_ids)} organizations; the limit is {ORGANIZATIONS_MAX}",
            param="organization_ids",
        )
    values = {
        "state": state,
        "percentage": percentage,
        "organization_ids": sorted(organization_ids),
        "updated_by": actor_id,
        "updated_at": func.clock_timestamp(),
    }
    statement = insert(FeatureSwitch).values(key=feature.value, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=[FeatureSwitch.key], set_=values))
    log.warning("feature.switched", feature=feature.value, state=state.value, actor_id=str(actor_id))
