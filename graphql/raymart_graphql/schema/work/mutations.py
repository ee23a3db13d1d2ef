"""What an administrator does about background work."""

from uuid import UUID

import strawberry

from raymart_billing.work.actions import cancel_work, retry_work
from raymart_core.ids import Prefix
from raymart_graphql.context import Info
from raymart_graphql.fields import mutation
from raymart_graphql.relay import parse_global_id
from raymart_graphql.schema.work.types import (
    CancelWorkInput,
    CancelWorkPayload,
    OutboxItem,
    RetryWorkInput,
    RetryWorkPayload,
)


@strawberry.type
class WorkMutation:
    """Root fields of the domain."""

    @mutation("Let dead, cancelled or waiting work run now. For administrators.")
    async def retry_work(self, info: Info, input_: RetryWorkInput) -> RetryWorkPayload:
        """Due at once."""
        outbox_id = parse_global_id(Prefix.WORK, input_.id, field="id")
        actor_id = await _actor_id(info)
        async with info.context.writing() as session:
            item = await retry_work(session, outbox_id=outbox_id, actor_id=actor_id, reason=input_.reason)
        return RetryWorkPayload(item=OutboxItem.of(item))

    @mutation("Call work off that is not done. A handler that runs is stopped. For administrators.")
    async def cancel_work(self, info: Info, input_: CancelWorkInput) -> CancelWorkPayload:
        """Not run any more."""
        outbox_id = parse_global_id(Prefix.WORK, input_.id, field="id")
        actor_id = await _actor_id(info)
        async with info.context.writing() as session:
            item = await cancel_work(session, outbox_id=outbox_id, actor_id=actor_id, reason=input_.reason)
        return CancelWorkPayload(item=OutboxItem.of(item))


async def _actor_id(info: Info) -> UUID:
    principal = await info.context.principal()
    assert principal.user_id is not None, "the rule lets only people in"
    return principal.user_id
