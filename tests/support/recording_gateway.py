"""A process that holds and records as the gateway does, without end, and prints each request it has acknowledged."""

import asyncio
import sys
from uuid import UUID

from books import finished

from raymart_billing.connections import make_pool
from raymart_billing.holds import LedgerHoldGate
from raymart_billing.posting import LedgerUsageSink
from raymart_core.money import Money

HOLD_TTL_S = 1.0


async def main(url: str, organization_id: UUID, provider_id: UUID) -> None:
    async with make_pool(url, size_max=6) as pool:
        gate, sink = LedgerHoldGate(pool), LedgerUsageSink(pool, record_timeout_s=10)
        await sink.start()

        async def customer() -> None:
            while True:
                request = finished(
                    organization_id, provider_id, tokens_prompt=10, tokens_completion=20, delivered=True
                )
                await gate.hold(
                    request_id=request.id,
                    organization_id=organization_id,
                    amount=Money(500),
                    ttl_s=HOLD_TTL_S,
                )
                await sink.record(request)
                sys.stdout.write(f"{request.id}\n")
                sys.stdout.flush()

        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(customer())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3])))
