"""Reversals."""

import strawberry

from raymart_billing import ledger
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.admin.types import Transfer
from raymart_graphql.schema.user_error import Payload


@strawberry.input(description="Transfers that were a mistake.")
class ReverseTransfersInput:
    """The parts of one usage can only go back together."""

    transfer_ids: list[strawberry.ID] = strawberry.field(
        description="1 to 1,000 posted transfers; all go back or none."
    )
    reason: str = strawberry.field(
        description="Why, 1 to 500 characters. It stays in the books; for the same reason a transfer is reversed once."
    )


@strawberry.type(description="What reverseTransfers gives back.")
class ReverseTransfersPayload(Payload):
    """The mirrors, or why there are none."""

    transfers: list[Transfer] | None = strawberry.field(
        default=None,
        description="The reversals, in the order of their transfers; null when there are user errors.",
    )


@strawberry.type
class LedgerMutation:
    """Root fields of the domain."""

    @mutation("Undo posted transfers by their mirrors. For administrators.")
    async def reverse_transfers(self, info: Info, input_: ReverseTransfersInput) -> ReverseTransfersPayload:
        """Each once, with a reason."""
        ids = [
            parse_global_id(Prefix.TRANSFER, text, field="transfer_ids").int for text in input_.transfer_ids
        ]
        principal = await info.context.principal()
        assert principal.user_id is not None, "the rule lets only people in"
        async with info.context.writing() as session:
            reversals = await ledger.reverse(session, ids, reason=input_.reason, actor_id=principal.user_id)
        return ReverseTransfersPayload(transfers=[Transfer.of(row) for row in reversals])
