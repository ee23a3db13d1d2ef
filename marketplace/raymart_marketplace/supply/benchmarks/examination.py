"""Examines one machine: orders check after check, times each by the marketplace's own clock, and judges.

What a node says of its speed is believed as far as our clock allows: the seconds that count are the longer of those it
claims and those that passed here, less an allowance for the way and for the start of the measurement. That it did the
work is proven by the products that it must open (`raymart_core.wire.products`). A node may hand the work on to a faster
machine; it cannot do it on the claimed one without having that.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from raymart_core.ids import new_id
from raymart_core.wire.link import Gpu, Hardware
from raymart_core.wire.machine import BenchmarkOrder, BenchmarkResult
from raymart_core.wire.products import NORMS_DIGEST_BYTES, PRODUCTS_MAX, flops, norms_digest
from raymart_marketplace.supply.benchmarks.rules import (
    GIB,
    Finding,
    Reason,
    failed,
    judge,
    judge_announced,
    judge_identity,
    judge_speed,
)

PINGS = 3
ROWS_OPENED = 4
"""Rows computed anew of each product that is opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    cpu_size: int = 1_024
    cpu_budget_s: float = 0.5
    gpu_size: int = 8_192
    gpu_budget_s: float = 3.0
    memory_budget_s: float = 0.3
    cpu_memory_bytes: int = 32 * 1024**2
    gpu_memory_bytes: int = GIB
    disk_bytes: int = 16 * 1024**2
    network_bytes: int = 1024**2
    products_opened: int = 3
    allowance_s: float = 1.5
    """What passes by our clock beside a GPU's products: the way there and back. Less than their budget, so that a card
    which is much slower than it claims gains little by it."""
    machine_allowance_s: float = 30.0
    """The same beside every other measurement, whose memory and files are made first, on a machine that may be busy."""
    order_timeout_s: float = 60.0
    ready_timeout_s: float = 180.0
    """The first use of a GPU loads gigabytes of libraries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A node's result, and what our clock says."""

    result: BenchmarkResult | None
    """None when nothing came in time."""
    elapsed_s: float
    data_bytes: int = 0
    """Payload that came between the first `BenchmarkData` and the result."""
    data_s: float = 0.0


Ask = Callable[[BenchmarkOrder], Awaitable[Answered]]
"""Sends an order and waits for its answer, at most `timeout_s`."""
Prove = Callable[[bytes, int, Sequence[tuple[int, int]]], Awaitable[Sequence[int]]]
"""`products.row_norms`, off the event loop."""


class _Failed(Exception):
    """An order came to nothing."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(slots=True, kw_only=True)
class Examination:
    """One benchmark of one machine."""

    ask: Ask
    prove: Prove
    effort: Effort = field(default_factory=Effort)
    findings: list[Finding] = field(default_factory=list)

    async def run(self, hardware: Hardware) -> Sequence[Finding]:
        """Every check, in the order of `rules.RULES`; a check that fails does not end the others."""
        await self._round_trip()
        await self._network()
        await self._speed(None, "")
        await self._disk()
        for gpu in hardware.gpus:
            self.findings.extend(judge_announced(gpu))
            for device in [piece.uuid for piece in gpu.mig] or [gpu.uuid]:
                await self._speed(gpu, device)
        return self.findings

    async def _round_trip(self) -> None:
        try:
            trips = [(await self._order("ping"))[1].elapsed_s for _ in range(PINGS)]
        except _Failed as error:
            self._fail("network_round_trip", error)
        else:
            self.findings.append(judge("network_round_trip", min(trips) * 1000))

    async def _network(self) -> None:
        try:
            _, answered = await self._order("network", size=self.effort.network_bytes)
            if answered.data_bytes < self.effort.network_bytes // 2:
                raise _Failed(Reason.NOT_MEASURED, f"{answered.data_bytes} bytes came")
        except _Failed as error:
            self._fail("network_up", error)
        else:
            self.findings.append(judge("network_up", answered.data_bytes * 8 / 1e6 / answered.data_s))

    async def _disk(self) -> None:
        try:
            result, answered = await self._order("disk", size=self.effort.disk_bytes)
            free_bytes = result.found.get("free_bytes")
            rate = self._rate(result, answered, result.amount / 1e6)
        except _Failed as error:
            self._fail("disk_write", error)
            return
        self.findings.append(judge("disk_write", rate))
        if isinstance(free_bytes, int):
            self.findings.append(judge("disk_free", free_bytes / GIB))

    async def _speed(self, gpu: Gpu | None, device: str) -> None:
        """Products and memory of the machine itself, or of a GPU or slice."""
        matrix, memory = ("gpu_matrix", "gpu_memory_bandwidth") if gpu else ("cpu_matrix", "memory_bandwidth")
        try:
            rate = await self._products(gpu, device)
        except _Failed as error:
            self._fail(matrix, error, device=device)
        else:
            unit = 1e12 if gpu else 1e9
            self.findings.append(
                judge_speed(matrix, gpu, rate / unit, device=device) if gpu else judge(matrix, rate / unit)
            )
        try:
            size = self.effort.gpu_memory_bytes if gpu else self.effort.cpu_memory_bytes
            result, answered = await self._order(
                "memory", device=device, size=size, budget_s=self.effort.memory_budget_s
            )
            rate = self._rate(result, answered, result.amount / 1e9)
        except _Failed as error:
            self._fail(memory, error, device=device)
        else:
            self.findings.append(
                judge_speed(memory, gpu, rate, device=device) if gpu else judge(memory, rate)
            )

    async def _products(self, gpu: Gpu | None, device: str) -> float:
        """Floating point operations a second that were proven. Raises: _Failed."""
        seed = secrets.token_bytes(32)
        size = self.effort.gpu_size if gpu else self.effort.cpu_size
        budget_s = self.effort.gpu_budget_s if gpu else self.effort.cpu_budget_s
        ready, _ = await self._order("ready", device=device, seed=seed, size=size)
        if gpu is not None:
            self.findings.append(judge_identity(gpu, ready.found, device=device))
        result, answered = await self._order("matrix", device=device, seed=seed, size=size, budget_s=budget_s)
        made = len(result.digests) // NORMS_DIGEST_BYTES
        if not 0 < made <= PRODUCTS_MAX or result.amount != made:
            raise _Failed(
                Reason.PRODUCT_WRONG, f"{result.amount:g} products are claimed, {made} committed to"
            )
        await self._open(device, seed, size, result.digests)
        allowance_s = self.effort.allowance_s if gpu else None
        return self._rate(result, answered, flops(size, made), allowance_s=allowance_s)

    async def _open(self, device: str, seed: bytes, size: int, digests: bytes) -> None:
        """Let the node open some products, chosen only now, and compute some of their rows anew. Raises: _Failed."""
        made = len(digests) // NORMS_DIGEST_BYTES
        asked: list[tuple[int, int]] = []
        told: list[int] = []
        for _ in range(self.effort.products_opened):
            product = secrets.randbelow(made)
            result, _ = await self._order("open", device=device, seed=seed, size=size, product=product)
            committed = digests[product * NORMS_DIGEST_BYTES :][:NORMS_DIGEST_BYTES]
            if len(result.norms) != 4 * size or norms_digest(result.norms) != committed:
                raise _Failed(Reason.PRODUCT_WRONG, f"product {product} is not what was committed to")
            for row in (secrets.randbelow(size) for _ in range(ROWS_OPENED)):
                asked.append((product, row))
                told.append(int.from_bytes(result.norms[4 * row : 4 * row + 4], "little"))
        for (product, row), here, there in zip(asked, await self.prove(seed, size, asked), told, strict=True):
            if here != there:
                raise _Failed(Reason.PRODUCT_WRONG, f"row {row} of product {product} was computed wrongly")

    def _rate(
        self, result: BenchmarkResult, answered: Answered, amount: float, *, allowance_s: float | None = None
    ) -> float:
        allowance_s = self.effort.machine_allowance_s if allowance_s is None else allowance_s
        seconds = max(result.seconds, answered.elapsed_s - allowance_s)
        if not (seconds > 0 and 0 <= amount < float("inf")):
            raise _Failed(Reason.NOT_MEASURED, f"{result.amount:g} in {result.seconds:g} s is no measurement")
        return amount / seconds

    async def _order(
        self,
        check: str,
        *,
        device: str = "",
        seed: bytes = b"",
        size: int = 0,
        budget_s: float = 0.0,
        product: int = 0,
    ) -> tuple[BenchmarkResult, Answered]:
        """The result of one order. Raises: _Failed."""
        timeout_s = self.effort.ready_timeout_s if check == "ready" else self.effort.order_timeout_s
        answered = await self.ask(
            BenchmarkOrder(
                order=new_id().hex,
                check=check,
                timeout_s=timeout_s,
                device=device,
                seed=seed,
                size=size,
                budget_s=budget_s,
                product=product,
            )
        )
        if answered.result is None:
            raise _Failed(Reason.NOT_ANSWERED, f"no answer within {timeout_s:g} s")
        if answered.result.problem:
            raise _Failed(Reason.NOT_MEASURED, answered.result.problem)
        return answered.result, answered

    def _fail(self, check: str, error: _Failed, *, device: str = "") -> None:
        self.findings.append(failed(check, error.reason, error.message, device=device))
