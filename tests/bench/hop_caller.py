"""The caller of `serve_hop`: a process of a Ray cluster that streams from one replica by both ways in turn.

Prints one JSON line: CPU microseconds a chunk, of caller and replica, by the way and round. Usage: hop_caller.py ADDRESS ROUNDS
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

import ray
from hop_replica import SECRET, HopReplica
from processes import cpu_ns
from ray import serve
from ray.serve.handle import DeploymentHandle

from raymart_core.wire.replica import (
    GENERATE_PATH,
    FinishEvent,
    GenerateRequest,
    Sampling,
    StepEvent,
    encode,
)
from raymart_marketplace.gateway.http_client import DirectUpstream
from raymart_marketplace.gateway.meter import replica_lines

STREAMS, AT_ONCE, TOKENS = 16, 8, 200
Stream = Callable[[], Awaitable[int]]


async def main() -> None:
    address, rounds = sys.argv[1:]
    ray.init(address=address, configure_logging=False, log_to_driver=False)
    await asyncio.to_thread(serve.start, proxy_location="Disabled")
    # The replica has nothing but its port and its handle: what Serve counts and asks beside is the same for both ways.
    bound = serve.deployment(name="Hop", max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})(
        HopReplica
    ).bind()
    handle: DeploymentHandle = await asyncio.to_thread(serve.run, bound, name="hop", route_prefix=None)
    pid, port = await handle.where.remote()
    upstream = DirectUpstream(port, SECRET)
    ways: dict[str, Stream] = {"handle": lambda: by_handle(handle), "ours": lambda: by_port(upstream)}
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(int(rounds) + 1):
        for way, stream in ways.items():
            figures = await cost_us(stream, pid)
            if number:  # The first warms up.
                spent[way].append(figures)
    upstream.close()
    await asyncio.to_thread(serve.shutdown)
    print(json.dumps(spent), flush=True)
    ray.shutdown()


async def cost_us(stream: Stream, replica_pid: int) -> tuple[float, float]:
    """CPU of a chunk, in caller and replica."""
    before = cpu_ns(os.getpid()), cpu_ns(replica_pid)
    numbers = iter(range(STREAMS))

    async def client() -> None:
        for _ in numbers:
            received = await stream()
            assert received == TOKENS, f"{received} of {TOKENS} tokens came"

    async with asyncio.TaskGroup() as clients:
        for _ in range(AT_ONCE):
            clients.create_task(client())
    chunks = STREAMS * TOKENS
    return (cpu_ns(os.getpid()) - before[0]) / 1e3 / chunks, (cpu_ns(replica_pid) - before[1]) / 1e3 / chunks


async def by_handle(handle: DeploymentHandle) -> int:
    """One stream through Serve; how many tokens came."""
    received = 0
    async for _token in handle.options(stream=True).tokens.remote(TOKENS):
        received += 1
    return received


async def by_port(upstream: DirectUpstream) -> int:
    """The same as the gateway asks for it, each event decoded; how many tokens came."""
    body = encode(GenerateRequest(sampling=Sampling(max_tokens=TOKENS), prompt="x"))
    response = await upstream.post(GENERATE_PATH, body, request_id="req_bench", deadline_ms=60_000)
    lines = replica_lines()
    received = 0
    async for chunk in response.chunks():
        for event in lines.feed(chunk):
            if isinstance(event, StepEvent):
                received = event.n
            elif isinstance(event, FinishEvent):
                break
    await response.aclose()
    return received


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
