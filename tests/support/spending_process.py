"""A gateway process for races over the last of a balance. It says "ready", begins at a line on its standard input, and
ends with one JSON line: {"served": n, "refused": {code: n}}.

Usage (PYTHONPATH: tests): spending_process.py URL ORGANIZATION PROVIDER PROJECT KEY,KEY... REQUESTS AMOUNT
"""

import asyncio
import json
import sys
from collections import Counter
from uuid import UUID

from msgspec.structs import replace

from raymart_billing.connections import make_pool
from raymart_billing.holds import GatewayLeases, LeaseLimits
from raymart_billing.posting import LedgerUsageSink
from raymart_core.errors import DomainError
from raymart_core.money import Money
from support.books import finished

HOLD_TTL_S = 300.0


async def main() -> None:
    """Hold and record REQUESTS requests at once, without HTTP."""
    url, organization, provider, project, keys, requests, amount = sys.argv[1:]
    api_keys = [UUID(key) for key in keys.split(",")]
    outcomes: Counter[str] = Counter()
    async with make_pool(url, size_max=8) as pool:
        limits = LeaseLimits(slice_min=5 * int(amount), statement_timeout_s=60)
        leases = GatewayLeases(pool, url, limits=limits)
        sink = LedgerUsageSink(pool, record_timeout_s=60, settlements=leases.settlements)
        await leases.start()
        await sink.start()

        async def spend(number: int) -> None:
            request = finished(
                UUID(organization), UUID(provider), tokens_prompt=10, tokens_completion=20, delivered=True,
                project_id=UUID(project), api_key_id=api_keys[number % len(api_keys)],
            )  # fmt: skip
            lease_id = await leases.gate.hold(
                request_id=request.id, organization_id=request.organization_id, project_id=request.project_id,
                api_key_id=request.api_key_id, amount=Money(int(amount)), ttl_s=HOLD_TTL_S,
            )  # fmt: skip
            await asyncio.sleep(0.02)  # Its tokens are on their way.
            await sink.record(replace(request, lease_id=lease_id))

        async def count(number: int) -> None:
            try:
                await spend(number)
            except DomainError as error:
                outcomes[error.code] += 1
            else:
                outcomes["served"] += 1

        say("ready")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        async with asyncio.TaskGroup() as group:
            for number in range(int(requests)):
                group.create_task(count(number))
        await sink.stop()
        await leases.stop()
    say(json.dumps({"served": outcomes.pop("served", 0), "refused": outcomes}))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
