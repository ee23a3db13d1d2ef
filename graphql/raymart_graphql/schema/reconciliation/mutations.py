"""What an administrator does about the chain and the ledger."""

from uuid import UUID

import strawberry

from raymart_billing.payouts.reconciliation.models import RunTrigger
from raymart_billing.payouts.reconciliation.service import ask_for_run, open_differences, resolve_difference
from raymart_billing.payouts.reconciliation.withdrawals import look_up, record_withdrawal
from raymart_billing.solana.chain import required
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.schema.reconciliation.chain_types import (
    RecordTreasuryWithdrawalInput,
    RecordTreasuryWithdrawalPayload,
    TreasuryWithdrawal,
)
from raymart_graphql.schema.reconciliation.types import (
    ReconciliationDifference,
    ReconciliationRun,
    RequestReconciliationInput,
    RequestReconciliationPayload,
    ResolveReconciliationDifferenceInput,
    ResolveReconciliationDifferencePayload,
)


@strawberry.type
class ReconciliationMutation:
    """Root fields of the domain."""

    @mutation("Compare the chain with the ledger, in the background. For administrators.")
    async def request_reconciliation(
        self, info: Info, input_: RequestReconciliationInput
    ) -> RequestReconciliationPayload:
        """A run for a worker."""
        actor_id = await _actor_id(info)
        async with info.context.writing() as session:
            run = await ask_for_run(
                session, trigger=RunTrigger.ADMIN, since=input_.since, requested_by=actor_id
            )
        return RequestReconciliationPayload(run=ReconciliationRun.of(run))

    @mutation(
        "Give a difference its reason. The last open one lets payouts that it stopped go on. For administrators."
    )
    async def resolve_reconciliation_difference(
        self, info: Info, input_: ResolveReconciliationDifferenceInput
    ) -> ResolveReconciliationDifferencePayload:
        """Resolved, with who and why."""
        actor_id = await _actor_id(info)
        async with info.context.writing() as session:
            difference = await resolve_difference(
                session, number=input_.number, reason=input_.reason, resolved_by=actor_id
            )
            still_open = await open_differences(session)
        return ResolveReconciliationDifferencePayload(
            difference=ReconciliationDifference.of(difference), still_open=still_open
        )

    @mutation(
        "Book USDC that the platform took out of its treasury, by its transaction; the amount is the chain's. For administrators."
    )
    async def record_treasury_withdrawal(
        self, info: Info, input_: RecordTreasuryWithdrawalInput
    ) -> RecordTreasuryWithdrawalPayload:
        """Against the platform's capital, once."""
        actor_id = await _actor_id(info)
        found = await look_up(required(info.context.services.chain), input_.signature)
        async with info.context.writing() as session:
            row = await record_withdrawal(session, found, reason=input_.reason, recorded_by=actor_id)
            await session.refresh(row)
        return RecordTreasuryWithdrawalPayload(withdrawal=TreasuryWithdrawal.of(row))


async def _actor_id(info: Info) -> UUID:
    principal = await info.context.principal()
    assert principal.user_id is not None, "the rule lets only people in"
    return principal.user_id
