"""A gateway that leases, records one usage that it never posts, holds for another request, and waits to be killed.

Usage (PYTHONPATH: tests): leasing_process.py URL ORGANIZATION PROVIDER SLICE TTL_S. Prints what it did as one JSON line.
"""

import asyncio
import json
import sys
from uuid import UUID

from msgspec.structs import replace

from raymart_billing.connections import make_pool
from raymart_billing.holds import GatewayLeases, LeaseLimits
from raymart_billing.records.copying import copy_requests
from raymart_core.ids import new_id
from raymart_core.money import Money
from support.books import finished


async def main() -> None:
    url, organization, provider, slice_min, ttl_s = sys.argv[1:]
    ttl = float(ttl_s)
    limits = LeaseLimits(
        slice_min=int(slice_min), slice_max=int(slice_min), ttl_s=ttl, renew_every_s=ttl / 4, margin_s=ttl / 4
    )
    async with make_pool(url, size_max=4) as pool:
        leases = GatewayLeases(pool, url, limits=limits)
        await leases.start()
        request = finished(
            UUID(organization), UUID(provider), tokens_prompt=10, tokens_completion=20, delivered=True
        )
        payer = {
            "organization_id": request.organization_id,
            "project_id": request.project_id,
            "api_key_id": request.api_key_id,
        }
        lease_id = await leases.gate.hold(request_id=request.id, amount=Money(500), ttl_s=300, **payer)
        async with pool.connection() as connection:
            await copy_requests(connection, [replace(request, lease_id=lease_id)], may_exist=False)
        await leases.gate.hold(request_id=new_id(), amount=Money(500), ttl_s=300, **payer)
        sys.stdout.write(json.dumps({"lease": str(lease_id), "recorded": str(request.id)}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
