"""A load generator: keep-alive connections that send one chat request after the other; prints one JSON line.

With a RATE the requests begin at their times, so many a second, however long others take; 0 is as fast as they end.
Usage: load.py PORT KEY MODEL CONCURRENCY REQUESTS TOKENS PACE_US stream|unary [RATE]
"""

import asyncio
import json
import sys
import time

import uvloop


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.done: asyncio.Future | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def go(self) -> asyncio.Future:
        self.done = asyncio.get_running_loop().create_future()
        self.buffer, self.left, self.first_s, self.events, self.status = b"", None, 0.0, 0, 0
        self.started = time.perf_counter()
        self.transport.write(self.request)
        return self.done

    def data_received(self, data: bytes) -> None:
        if self.done is None:
            return
        if self.left is None:
            self.buffer += data
            head, found, data = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self.status = int(head[9:12])
            _, sized, rest = head.lower().partition(b"content-length:")
            self.left = int(rest.split(b"\r\n")[0]) if sized else -1
            self.buffer = b""
        if data and not self.first_s:
            self.first_s = time.perf_counter() - self.started
        self.events += data.count(b"data:")
        if self.left >= 0:
            self.left -= len(data)
            over = self.left <= 0
        else:
            self.buffer = (self.buffer + data)[-5:]
            over = self.buffer == b"0\r\n\r\n"
        if over:
            self.finish(self.status)

    def finish(self, status: int) -> None:
        done, self.done = self.done, None
        if done is not None and not done.done():
            done.set_result((status, time.perf_counter() - self.started, self.first_s, self.events))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.finish(-1)


async def main() -> None:
    port, key, model, concurrency, requests, tokens, pace_us, mode = sys.argv[1:9]
    rate = float(sys.argv[9]) if len(sys.argv) > 9 else 0.0
    content = (
        f"pace_us={pace_us} Explain double-entry ledgers for metered GPU inference in two sentences please."
    )
    body = {
        "model": model,
        "messages": [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": content}],
        "max_tokens": int(tokens),
    }
    if mode == "stream":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    payload = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    numbers = iter(range(int(requests)))
    results = []
    loop = asyncio.get_running_loop()

    async def work() -> None:
        client = None
        for number in numbers:
            if rate:
                await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            if client is None or client.closed:
                _, client = await loop.create_connection(
                    lambda: Client(head.encode() + payload), "127.0.0.1", int(port)
                )
            results.append(await client.go())

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(int(concurrency)):
            group.create_task(work())
    elapsed_s = time.perf_counter() - started
    good = [result for result in results if result[0] == 200]
    totals, firsts = sorted(result[1] for result in good), sorted(result[2] for result in good)

    def at(values: list[float], share: float) -> float:
        return values[min(len(values) - 1, int(len(values) * share))] * 1e3 if values else 0.0

    print(
        json.dumps(
            {
                "requests": len(results), "good": len(good), "elapsed_s": elapsed_s,
                "events": sum(result[3] for result in good),
                "p50_ms": at(totals, 0.5), "p99_ms": at(totals, 0.99), "first_p50_ms": at(firsts, 0.5),
            }
        )
    )  # fmt: skip


uvloop.run(main())
