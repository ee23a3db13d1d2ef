"""The rules of payouts as versions: the newest holds, and each stays readable. Takes a session, never commits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts.holdback import Band, bands_as_json, bands_of_json, check_bands
from raymart_billing.payouts.policy_models import PayoutPolicy
from raymart_billing.payouts.refusals import in_words
from raymart_core.errors import Conflict, InvalidRequest
from raymart_core.money import AMOUNT_MAX, Asset, Money
from raymart_marketplace.oversight.reasons import checked_reason

log = structlog.get_logger()

EPOCH_HOURS_MAX = 744
POLICIES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a policy says. Amounts are USDC."""

    minimum: Money
    """Less is carried over to the next epoch."""
    batch_cap: Money
    day_cap: Money
    four_eyes_above: Money
    """A batch of more needs two people who did not plan it."""
    epoch_hours: int
    bands: Sequence[Band]

    def check(self) -> None:
        """Raises: InvalidRequest, naming the field."""
        for field in ("minimum", "batch_cap", "day_cap", "four_eyes_above"):
            amount: Money = getattr(self, field)
            least = 0 if field == "four_eyes_above" else 1
            if amount.asset is not Asset.USDC or not least <= amount.amount <= AMOUNT_MAX:
                raise InvalidRequest(
                    f"{field} of {amount} cannot be; give USDC, at least 0.000001", param=field
                )
        if self.day_cap < self.batch_cap:
            raise InvalidRequest(
                f"a day's cap of {self.day_cap} is less than a batch's of {self.batch_cap}; raise it",
                param="day_cap",
            )
        if not 1 <= self.epoch_hours <= EPOCH_HOURS_MAX:
            raise InvalidRequest(
                f"an epoch of {self.epoch_hours} hours; give 1 to {EPOCH_HOURS_MAX}", param="epoch_hours"
            )
        check_bands(self.bands)

    def approvals_needed(self, total: Money) -> int:
        """How many people who did not plan it must approve a batch of `total`. The database holds it too."""
        return 2 if total > self.four_eyes_above else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesChange:
    """What is to change; None leaves a rule as it is."""

    minimum: Money | None = None
    batch_cap: Money | None = None
    day_cap: Money | None = None
    four_eyes_above: Money | None = None
    epoch_hours: int | None = None
    bands: Sequence[Band] | None = None

    def applied_to(self, rules: Rules) -> Rules:
        """`rules` with the changes. Raises: InvalidRequest."""
        given = {
            name: getattr(self, name) for name in RulesChange.__slots__ if getattr(self, name) is not None
        }
        if not given:
            raise InvalidRequest("no rule was given; name at least one that is to change")
        changed = replace(rules, **given)
        changed.check()
        return changed


def rules_of(policy: PayoutPolicy) -> Rules:
    """What the version says."""
    return Rules(
        minimum=Money(policy.minimum_micro_usdc, Asset.USDC),
        batch_cap=Money(policy.batch_cap_micro_usdc, Asset.USDC),
        day_cap=Money(policy.day_cap_micro_usdc, Asset.USDC),
        four_eyes_above=Money(policy.four_eyes_above_micro_usdc, Asset.USDC),
        epoch_hours=policy.epoch_hours,
        bands=bands_of_json(policy.holdback_bands),
    )


async def present_policy(session: AsyncSession) -> PayoutPolicy:
    """The version that holds; there always is one."""
    return (await session.scalars(select(PayoutPolicy).order_by(PayoutPolicy.version.desc()).limit(1))).one()


async def present_rules(session: AsyncSession) -> Rules:
    """What holds now."""
    return rules_of(await present_policy(session))


async def set_policy(
    session: AsyncSession, change: RulesChange, *, version: int, reason: str, actor_id: UUID | None
) -> PayoutPolicy:
    """Make the next version from `version`, the one that was looked at.

    Raises: InvalidRequest, Conflict when another one holds by now.
    """
    before = await present_policy(session)
    if before.version != version:
        raise Conflict(
            f"version {before.version} of the policy holds by now, not {version}; look at it and try again",
            param="version",
        )
    rules = change.applied_to(rules_of(before))
    policy = PayoutPolicy(
        version=version + 1,
        minimum_micro_usdc=rules.minimum.amount,
        batch_cap_micro_usdc=rules.batch_cap.amount,
        day_cap_micro_usdc=rules.day_cap.amount,
        four_eyes_above_micro_usdc=rules.four_eyes_above.amount,
        epoch_hours=rules.epoch_hours,
        holdback_bands=bands_as_json(rules.bands),
        reason=checked_reason(reason),
        created_by=actor_id,
    )
    session.add(policy)
    async with in_words():
        await session.flush()
    log.warning("payout_policy.set", version=policy.version, actor_id=str(actor_id))
    return policy
