"""Requests at a steady rate, whatever becomes of the earlier ones, and what became of each."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request and its end."""

    at_s: float
    """When it was sent, from the beginning of the load."""
    took_s: float
    status: int
    """0 when there was no answer at all."""
    provider: str
    attempts: int
    error: str
    """What the answer says is wrong; empty for a good one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a whole load."""

    sent: Sequence[Sent]

    @property
    def failed(self) -> Sequence[Sent]:
        return [one for one in self.sent if one.status != 200]

    @property
    def retried(self) -> int:
        return sum(one.attempts > 1 for one in self.sent)

    def served_by(self, *, after_s: float = 0.0, before_s: float = float("inf")) -> Counter[str]:
        """How many of those sent in this time were served by whom."""
        return Counter(one.provider for one in self.sent if after_s <= one.at_s < before_s)

    def latency_s(self, share: float) -> float:
        """The latency that `share` of all requests kept, 0 to 1."""
        ordered = sorted(one.took_s for one in self.sent)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __str__(self) -> str:
        return (
            f"{len(self.failed)} of {len(self.sent)} failed, {self.retried} took more than one attempt, "
            f"p50 {self.latency_s(0.5) * 1e3:.0f} ms, p99 {self.latency_s(0.99) * 1e3:.0f} ms, "
            f"longest {self.latency_s(1) * 1e3:.0f} ms; by {dict(self.served_by())}"
        )


class SteadyLoad:
    """Sends `count` requests at `rate_per_s` in the block: an open loop, so that a slow answer slows nobody.

    What is still under way when the block is left is given up; wait for `outcome` before.
    """

    def __init__(
        self, client: httpx.AsyncClient, body: dict[str, Any], *, count: int, rate_per_s: float
    ) -> None:
        self._client = client
        self._body = body
        self._count = count
        self._rate_per_s = rate_per_s

    async def __aenter__(self) -> Self:
        self._began = time.monotonic()
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def elapsed_s(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._began

    async def reached(self, at_s: float) -> float:
        """Wait until the load is `at_s` old; returns its age then."""
        await asyncio.sleep(max(0.0, at_s - self.elapsed_s))
        return self.elapsed_s

    async def outcome(self) -> Outcome:
        """Wait for the last answer."""
        return Outcome(await self._task)

    async def _send(self) -> list[Sent]:
        async with asyncio.TaskGroup() as tasks:
            sending = []
            for number in range(self._count):
                await self.reached(number / self._rate_per_s)
                sending.append(tasks.create_task(self._one()))
        return [one.result() for one in sending]

    async def _one(self) -> Sent:
        at_s = self.elapsed_s
        status, provider, attempts, error = 0, "", 0, ""
        try:
            answer = await self._client.post("/v1/chat/completions", json=self._body)
            status = answer.status_code
            provider = answer.headers.get("x-raymart-provider", "")
            attempts = int(answer.headers.get("x-raymart-attempts", "0"))
            error = "" if status == 200 else answer.text[:300]
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__} {failure}"
        return Sent(
            at_s=at_s, took_s=self.elapsed_s - at_s, status=status, provider=provider, attempts=attempts, error=error
        )  # fmt: skip
