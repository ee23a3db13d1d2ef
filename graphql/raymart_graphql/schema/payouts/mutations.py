"""What administrators do about payouts. All of it asks for a second factor where the marketplace requires one."""

from decimal import Decimal
from uuid import UUID

import strawberry
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.payouts import approving, batches, cancelling, models, switch, trust
from raymart_billing.payouts.holdback import Band
from raymart_billing.payouts.policy import RulesChange, set_policy
from raymart_billing.payouts.requests import PlanRequest, request_plan
from raymart_billing.payouts.running import mint_of
from raymart_core.errors import InvalidRequest, NotFound, Unavailable
from raymart_core.ids import Prefix
from raymart_core.money import Money as Amount
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.payouts import inputs, payloads
from raymart_graphql.schema.payouts.amounts import parse_usdc
from raymart_graphql.schema.payouts.enums import SwitchSource
from raymart_graphql.schema.payouts.rule_types import PayoutPolicy, PayoutStop
from raymart_graphql.schema.payouts.types import PayoutBatch


@strawberry.type
class PayoutMutation:
    """Root fields of the domain."""

    @mutation(
        "Plan payouts now; you then may not approve what comes of it. `item` tells when it is done. For administrators."
    )
    async def request_payout_plan(
        self, info: Info, input_: inputs.RequestPayoutPlanInput
    ) -> payloads.RequestPayoutPlanPayload:
        """Work for a worker: every provider is looked at."""
        if mint_of(info.context.services.settings) is None:
            raise Unavailable("payouts are not configured here; the operator sets SOLANA_RPC_URL")
        request = PlanRequest(created_by=await _person(info), ends_epoch=input_.ends_epoch)
        async with info.context.writing() as session:
            outbox_id = await request_plan(session, request)
        return payloads.RequestPayoutPlanPayload(item=await info.context.loaders.work.item.load(outbox_id))

    @mutation(
        "Approve a batch; with enough people it is sent. Nobody approves what they planned. For administrators."
    )
    async def approve_payout_batch(
        self, info: Info, input_: inputs.ApprovePayoutBatchInput
    ) -> payloads.ApprovePayoutBatchPayload:
        """The database refuses on its own what may not be."""
        limits = approving.part_limits(info.context.services.settings)
        async with info.context.writing() as session:
            row = await approving.approve_batch(
                session,
                await _numbered(session, input_.number),
                user_id=await _person(info),
                total=parse_usdc(input_.total, "total"),
                limits=limits,
            )
            return payloads.ApprovePayoutBatchPayload(batch=PayoutBatch.of(row))

    @mutation("Stop a batch: nothing more of it is signed. For administrators.")
    async def hold_payout_batch(
        self, info: Info, input_: inputs.HoldPayoutBatchInput
    ) -> payloads.HoldPayoutBatchPayload:
        """Until it is released."""
        async with info.context.writing() as session:
            row = await batches.hold_batch(
                session,
                await _numbered(session, input_.number),
                reason=input_.reason,
                actor_id=await _person(info),
            )
            return payloads.HoldPayoutBatchPayload(batch=PayoutBatch.of(row))

    @mutation("Let a held batch go on where it was. For administrators.")
    async def release_payout_batch(
        self, info: Info, input_: inputs.ReleasePayoutBatchInput
    ) -> payloads.ReleasePayoutBatchPayload:
        """Ends a hold."""
        async with info.context.writing() as session:
            row = await batches.release_batch(
                session, await _numbered(session, input_.number), actor_id=await _person(info)
            )
            return payloads.ReleasePayoutBatchPayload(batch=PayoutBatch.of(row))

    @mutation(
        "Move payees of a batch that is not approved into a new one, which is held; you then may not approve that."
        " For administrators."
    )
    async def split_payout_batch(
        self, info: Info, input_: inputs.SplitPayoutBatchInput
    ) -> payloads.SplitPayoutBatchPayload:
        """Both totals stay right; approvals of the old one are void."""
        async with info.context.writing() as session:
            batch_id = await _numbered(session, input_.number)
            new = await batches.split_batch(
                session,
                batch_id,
                await _items_at(session, batch_id, input_.positions),
                reason=input_.reason,
                actor_id=await _person(info),
            )
            rest = await session.get_one(models.PayoutBatch, batch_id)
            return payloads.SplitPayoutBatchPayload(batch=PayoutBatch.of(new), rest=PayoutBatch.of(rest))

    @mutation(
        "Give up a batch of which nothing was signed: its money goes back to the payees' balances. For administrators."
    )
    async def cancel_payout_batch(
        self, info: Info, input_: inputs.CancelPayoutBatchInput
    ) -> payloads.CancelPayoutBatchPayload:
        """Held at once; a worker gives the money back."""
        async with info.context.writing() as session:
            row = await cancelling.cancel_batch(
                session,
                await _numbered(session, input_.number),
                reason=input_.reason,
                actor_id=await _person(info),
            )
            return payloads.CancelPayoutBatchPayload(batch=PayoutBatch.of(row))

    @mutation("Stop all payouts: nothing is approved and nothing is signed. For administrators.")
    async def pause_payouts(
        self, info: Info, input_: inputs.PausePayoutsInput
    ) -> payloads.PausePayoutsPayload:
        """The kill switch."""
        async with info.context.writing() as session:
            stop = await switch.pause(
                session, source=SwitchSource.ADMIN, reason=input_.reason, actor_id=await _person(info)
            )
            await session.refresh(stop)
            return payloads.PausePayoutsPayload(stop=PayoutStop.of(stop))

    @mutation(
        "Let payouts go on that a person stopped; what reconciliation stopped ends with its difference. For administrators."
    )
    async def resume_payouts(
        self, info: Info, input_: inputs.ResumePayoutsInput
    ) -> payloads.ResumePayoutsPayload:
        """Ends the stop of the marketplace's people."""
        async with info.context.writing() as session:
            stop = await switch.resume(
                session, source=SwitchSource.ADMIN, reason=input_.reason, actor_id=await _person(info)
            )
            return payloads.ResumePayoutsPayload(stop=PayoutStop.of(stop))

    @mutation("Change rules of payouts, as the next version. For administrators.")
    async def set_payout_policy(
        self, info: Info, input_: inputs.SetPayoutPolicyInput
    ) -> payloads.SetPayoutPolicyPayload:
        """From the version that was looked at."""
        change = _change(input_)
        async with info.context.writing() as session:
            row = await set_policy(
                session, change, version=input_.version, reason=input_.reason, actor_id=await _person(info)
            )
            await session.refresh(row)
            return payloads.SetPayoutPolicyPayload(policy=PayoutPolicy.of(row))

    @mutation("Say how far a provider is trusted, from the next epoch on. For administrators.")
    async def set_provider_trust(
        self, info: Info, input_: inputs.SetProviderTrustInput
    ) -> payloads.SetProviderTrustPayload:
        """Decides its holdback."""
        provider_id = parse_global_id(Prefix.PROVIDER, input_.provider_id, field="provider_id")
        async with info.context.writing() as session:
            row = await trust.set_trust(
                session, provider_id, score=input_.score, reason=input_.reason, actor_id=await _person(info)
            )
        provider = await info.context.loaders.supply.provider.load(provider_id)
        return payloads.SetProviderTrustPayload(provider=provider, score=row.score)


async def _person(info: Info) -> UUID:
    principal = await info.context.principal()
    assert principal.user_id is not None, "the rule lets only people in"
    return principal.user_id


async def _numbered(session: AsyncSession, number: int) -> UUID:
    """Raises: NotFound."""
    batch_id = await session.scalar(select(models.PayoutBatch.id).where(models.PayoutBatch.number == number))
    if batch_id is None:
        raise NotFound(f"there is no payout batch {number}", param="number")
    return batch_id


async def _items_at(session: AsyncSession, batch_id: UUID, positions: list[int]) -> list[UUID]:
    """Raises: InvalidRequest naming the first position that has no payee."""
    item = models.PayoutItem
    wanted = positions[: batches.SPLIT_ITEMS_MAX + 1]
    found = await session.execute(
        select(item.position, item.id).where(item.batch_id == batch_id, item.position.in_(wanted))
    )
    by_position = dict(found.tuples().all())
    missing = next((position for position in wanted if position not in by_position), None)
    if missing is not None:
        raise InvalidRequest(f"the batch has no payee at position {missing}", param="positions")
    return list(by_position.values())


def _change(input_: inputs.SetPayoutPolicyInput) -> RulesChange:
    """Raises: InvalidRequest."""
    bands = input_.holdback_bands
    return RulesChange(
        minimum=_amount(input_.minimum, "minimum"),
        batch_cap=_amount(input_.batch_cap, "batch_cap"),
        day_cap=_amount(input_.day_cap, "day_cap"),
        four_eyes_above=_amount(input_.four_eyes_above, "four_eyes_above"),
        epoch_hours=input_.epoch_hours,
        bands=None
        if bands is None
        else tuple(
            Band(trust_min=band.trust_min, basis_points=band.basis_points, days=band.days) for band in bands
        ),
    )


def _amount(value: Decimal | None, field: str) -> Amount | None:
    return None if value is None else parse_usdc(value, field)
