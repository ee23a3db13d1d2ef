"""A process that holds and records as the gateway does, without end, and prints each request it has acknowledged."""

import asyncio
import sys
from uuid import UUID

from books import finished
from msgspec.structs import replace

from raymart_billing.connections import make_pool
from raymart_billing.holds import GatewayLeases, LeaseLimits
from raymart_billing.posting import LedgerUsageSink
from raymart_core.ids import new_id
from raymart_core.money import Money

LIMITS = LeaseLimits(ttl_s=1.0, renew_every_s=0.2, margin_s=0.2, slice_min=50_000)
"""What a killed process has leased comes back a second later."""


async def main(url: str, organization_id: UUID, provider_id: UUID) -> None:
    project_id = new_id()
    async with make_pool(url, size_max=6) as pool:
        leases = GatewayLeases(pool, url, limits=LIMITS)
        sink = LedgerUsageSink(pool, record_timeout_s=10, settlements=leases.settlements)
        await leases.start()
        await sink.start()

        async def customer() -> None:
            while True:
                request = finished(
                    organization_id, provider_id, tokens_prompt=10, tokens_completion=20, delivered=True
                )
                lease_id = await leases.gate.hold(
                    request_id=request.id,
                    organization_id=organization_id,
                    project_id=project_id,
                    api_key_id=None,
                    amount=Money(500),
                    ttl_s=60,
                )
                await sink.record(replace(request, lease_id=lease_id))
                sys.stdout.write(f"{request.id}\n")
                sys.stdout.flush()

        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(customer())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3])))
