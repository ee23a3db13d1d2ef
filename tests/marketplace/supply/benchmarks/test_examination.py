"""One machine's examination, with the node's side played in this process."""

import dataclasses

import msgspec
import pytest

from raymart_core.wire.link import Hardware
from raymart_core.wire.machine import BenchmarkResult
from raymart_core.wire.products import NORMS_DIGEST_BYTES, norms_digest, row_norms
from raymart_marketplace.supply.benchmarks.examination import Answered, Examination
from raymart_marketplace.supply.benchmarks.rules import RULES, Reason
from raymart_providers.benchmark.worker import Bench
from support.benchmarked import H200, LITTLE

MACHINE = Hardware(hostname="m", cpu_model="c", cpu_count=2, memory_bytes=2**33)


async def prove(seed, size, rows):
    return row_norms(seed, size, rows)


class Node:
    """A node whose orders are carried out at once, with a clock of its own and whatever lies the test adds."""

    def __init__(self, folder, *, elapsed_s=None):
        self.bench = Bench(folder, "")
        self.elapsed_s = {"ping": 0.02, "network": 0.5, **(elapsed_s or {})}
        self.lies = {}
        self.orders = []

    async def ask(self, order):
        self.orders.append(order)
        elapsed_s = self.elapsed_s.get(order.check, 0.1)
        if order.check in {"ping", "network"}:
            result = BenchmarkResult(order=order.order)
        else:
            result = self.bench.carry_out(msgspec.structs.replace(order, device=""))
        lie = self.lies.get(order.check)
        if lie is not None:
            result = lie(order, result)
        return Answered(result=result, elapsed_s=elapsed_s, data_bytes=order.size, data_s=elapsed_s)


def changed(**changes):
    return lambda order, result: msgspec.structs.replace(result, **changes)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


async def examined(node, hardware=MACHINE, effort=LITTLE):
    return {
        finding.check: finding
        for finding in await Examination(ask=node.ask, prove=prove, effort=effort).run(hardware)
    }


class TestMachine:
    async def test_an_honest_machine_passes_every_check(self, node):
        found = await examined(node)
        assert list(found) == [rule.check for rule in RULES if not rule.of_gpu]
        assert {finding.reason for finding in found.values()} == {None}
        assert found["network_round_trip"].value == pytest.approx(20)
        assert found["network_up"].value == pytest.approx(LITTLE.network_bytes * 8 / 1e6 / 0.5)

    async def test_each_measurement_has_a_seed_of_its_own(self, node):
        await examined(node)
        await examined(node)
        seeds = {order.seed for order in node.orders if order.check == "matrix"}
        assert len(seeds) == 2

    async def test_a_node_far_away_fails_by_name(self, tmp_path):
        found = await examined(Node(tmp_path, elapsed_s={"ping": 1.5, "network": 5.0}))
        assert found["network_round_trip"].reason is Reason.NETWORK_TOO_FAR
        assert found["network_up"].reason is Reason.NETWORK_TOO_SLOW

    async def test_silence_fails_each_check_and_ends_none(self, node):
        async def silent(order):
            return Answered(result=None, elapsed_s=order.timeout_s)

        node.ask = silent
        found = await examined(node)
        assert {finding.reason for finding in found.values()} == {Reason.NOT_ANSWERED}
        assert len(found) == 5

    async def test_a_problem_is_told_in_the_nodes_words(self, node):
        node.lies["disk"] = changed(problem="OSError: no space left")
        found = await examined(node)
        assert found["disk_write"].reason is Reason.NOT_MEASURED
        assert "no space left" in found["disk_write"].message

    async def test_a_full_disk_fails_by_name(self, node):
        node.lies["disk"] = changed(found={"free_bytes": 2**29})
        found = await examined(node)
        assert found["disk_free"].reason is Reason.DISK_FULL

    @pytest.mark.parametrize(
        "lie", [{"seconds": 0.0, "amount": float("inf")}, {"amount": float("nan")}, {"amount": -1.0}], ids=str
    )
    async def test_numbers_that_are_none_are_no_measurement(self, node, lie):
        node.lies["memory"] = changed(**lie)
        found = await examined(node)
        assert found["memory_bandwidth"].reason is Reason.NOT_MEASURED


class TestProducts:
    async def test_products_that_were_not_made_are_found(self, node):
        def invent(order, result):
            """Ten times as many products as were computed."""
            return msgspec.structs.replace(
                result, amount=10 * result.amount, digests=result.digests + b"x" * 9 * len(result.digests)
            )

        node.lies["matrix"] = invent
        node.lies["open"] = lambda order, result: (
            BenchmarkResult(order=order.order, norms=bytes(4 * order.size)) if result.problem else result
        )
        effort = dataclasses.replace(LITTLE, products_opened=20)
        found = await examined(node, effort=effort)
        assert found["cpu_matrix"].reason is Reason.PRODUCT_WRONG

    async def test_norms_that_were_made_up_before_are_found(self, node):
        """Committed to and opened as they were committed to: only computing them anew tells."""
        norms = bytes(4 * LITTLE.cpu_size)
        node.lies["matrix"] = lambda order, result: msgspec.structs.replace(
            result, digests=norms_digest(norms) * int(result.amount)
        )
        node.lies["open"] = changed(norms=norms)
        found = await examined(node)
        assert found["cpu_matrix"].reason is Reason.PRODUCT_WRONG
        assert "computed wrongly" in found["cpu_matrix"].message

    async def test_products_that_are_right_but_were_not_committed_to_are_found(self, node):
        """Made after it was told which are opened: right for those, and for no others."""
        node.lies["matrix"] = lambda order, result: msgspec.structs.replace(
            result, digests=bytes(len(result.digests))
        )
        found = await examined(node)
        assert found["cpu_matrix"].reason is Reason.PRODUCT_WRONG
        assert "committed to" in found["cpu_matrix"].message

    @pytest.mark.parametrize(
        "lie",
        [{"amount": 10_000.0}, {"digests": b""}, {"digests": b"x" * NORMS_DIGEST_BYTES * 4_000}],
        ids=["claimed", "nothing", "too many"],
    )
    async def test_only_what_is_committed_to_counts(self, node, lie):
        node.lies["matrix"] = changed(**lie)
        assert (await examined(node))["cpu_matrix"].reason is Reason.PRODUCT_WRONG

    @pytest.mark.parametrize("norms", [b"", b"x", b"x" * 40_000], ids=len)
    async def test_norms_of_another_length_are_wrong(self, node, norms):
        node.lies["open"] = changed(norms=norms)
        assert (await examined(node))["cpu_matrix"].reason is Reason.PRODUCT_WRONG


class TestClock:
    async def test_our_clock_counts_where_the_nodes_seconds_are_too_few(self, tmp_path):
        """It claims a nanosecond; 1,000 s passed here, 10 of them are allowed for the way."""
        node = Node(tmp_path, elapsed_s={"matrix": 1_000.0})
        node.lies["matrix"] = changed(seconds=1e-9)
        found = await examined(node)
        assert found["cpu_matrix"].reason is Reason.CPU_TOO_SLOW
        made = node.bench._made
        assert found["cpu_matrix"].value == pytest.approx(2 * 64**3 * made / 990 / 1e9)


class TestGpu:
    def with_gpu(self, node, **found):
        said = {"name": H200.model, "multiprocessors": 132, "memory_bytes": H200.memory_bytes}
        honest = node.lies.get("ready")
        assert honest is None
        node.lies["ready"] = changed(found={**said, **found})
        return msgspec.structs.replace(MACHINE, gpus=(H200,))

    async def test_a_slow_card_with_a_fast_ones_name_fails_by_name(self, node):
        found = await examined(node, self.with_gpu(node))
        assert found["gpu_memory"].passed
        assert found["gpu_identity"].passed
        assert found["gpu_matrix"].reason is Reason.GPU_TOO_SLOW_FOR_MODEL
        assert found["gpu_memory_bandwidth"].reason is Reason.GPU_MEMORY_TOO_SLOW_FOR_MODEL

    async def test_a_fast_card_passes(self, node):
        hardware = self.with_gpu(node)
        for check in ("matrix", "memory"):
            node.lies[check] = changed(seconds=1e-9)
        found = await examined(node, hardware)
        assert {finding.reason for finding in found.values()} == {None}
        assert {finding.device for name, finding in found.items() if name.startswith("gpu_")} == {H200.uuid}

    async def test_a_device_that_cuda_names_otherwise_fails_by_name(self, node):
        hardware = self.with_gpu(node, name="NVIDIA GeForce RTX 4090", multiprocessors=128)
        found = await examined(node, hardware)
        assert found["gpu_identity"].reason is Reason.GPU_NOT_AS_ANNOUNCED

    async def test_a_card_without_torch_fails_both_speeds(self, node):
        node.lies["ready"] = changed(problem="ModuleNotFoundError: No module named 'torch'")
        node.lies["memory"] = node.lies["ready"]
        found = await examined(node, msgspec.structs.replace(MACHINE, gpus=(H200,)))
        assert found["gpu_matrix"].reason is Reason.NOT_MEASURED
        assert found["gpu_memory_bandwidth"].reason is Reason.NOT_MEASURED
