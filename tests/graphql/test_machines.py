"""What machines have, can do and are doing, as providers and everybody see it."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from raymart_core.ids import Prefix, new_id, show
from raymart_core.wire.machine import GpuSample, Telemetry
from raymart_graphql.machine_metrics import MachineMetrics
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.benchmarks import BenchmarkDesk
from raymart_marketplace.supply.benchmarks.models import BenchmarkCause
from raymart_marketplace.supply.benchmarks.records import begin, finish
from raymart_marketplace.supply.benchmarks.rules import RULES, Reason, failed, judge
from raymart_marketplace.supply.telemetry import MinuteSums, NodeRecord, TelemetryBook
from raymart_marketplace.supply.telemetry_hours import roll_up
from support.api_server import Api, Seller

RUN = """mutation ($id: ID!) { runBenchmark(input: {nodeId: $id}) {
  benchmark { id state cause startedAt checks { check } } userErrors { code } } }"""
NODE = """query ($id: ID!, $since: DateTime!, $until: DateTime!) { node(id: $id) { ... on ProviderNode {
  state hardware { os cuda diskBytes gpus { computeCapability multiprocessors ecc slices { profile } } }
  benchmarks { nodes { id state cause checks { check device value limit passed reason message } } }
  telemetry { cpuPercent memoryUsedBytes diskFreeBytes gpus { uuid utilisationPercent temperatureC } }
  telemetryHours(since: $since, until: $until) { startsAt device samples utilisationPercent diskFreeBytesMin }
} } }"""
RULES_QUERY = """{ benchmarkRules { check what unit least most shareOfModel ofGpu why reasons }
  knownGpus { name memoryGib tensorTflops } }"""


async def seen(api: Api, seller: Seller, *, by: Any = None) -> dict[str, Any]:
    now = datetime.now(UTC)
    found = await api(
        NODE,
        by or seller.tenant.owner,
        id=show(Prefix.NODE, seller.node_id),
        since=(now - timedelta(hours=2)).isoformat(),
        until=now.isoformat(),
    )
    node: dict[str, Any] = found.data["node"]
    return node


class TestRules:
    async def test_everybody_reads_the_rules_as_they_are_applied(self, api: Api) -> None:
        found = (await api(RULES_QUERY)).data
        assert [rule["check"] for rule in found["benchmarkRules"]] == [rule.check for rule in RULES]
        matrix = next(rule for rule in found["benchmarkRules"] if rule["check"] == "gpu_matrix")
        assert (matrix["shareOfModel"], matrix["ofGpu"]) == (0.3, True)
        assert {"gpu_too_slow_for_model", "product_wrong", "not_answered"} <= set(matrix["reasons"])
        assert {"NVIDIA H200"} <= {gpu["name"] for gpu in found["knownGpus"]}


@pytest.mark.usefixtures("replica")
class TestBenchmarks:
    async def test_a_provider_asks_for_one_and_a_repeat_finds_it(self, api: Api, seller: Seller) -> None:
        node_id = show(Prefix.NODE, seller.node_id)
        first = (await api(RUN, seller.tenant.owner, id=node_id)).data["runBenchmark"]
        again = (await api(RUN, seller.tenant.owner, id=node_id)).data["runBenchmark"]
        assert first == again
        assert first["userErrors"] == []
        assert first["benchmark"]["state"] == "REQUESTED"
        assert (first["benchmark"]["cause"], first["benchmark"]["checks"]) == ("ASKED", [])

    async def test_what_was_found_is_listed_newest_first_with_reasons(self, api: Api, seller: Seller) -> None:
        slow = failed("cpu_matrix", Reason.CPU_TOO_SLOW, "0.5 GFLOP/s\0")
        for findings in ([judge("disk_free", 4.0)], [judge("disk_free", 4.0), slow]):
            async with session_scope(api.services.sessions) as session:
                benchmark_id = await begin(session, seller.node_id, BenchmarkCause.NEW, "d")
                assert benchmark_id is not None
                await finish(session, benchmark_id, findings)
        node = await seen(api, seller)
        assert node["state"] == "ENROLLED"
        newest, oldest = node["benchmarks"]["nodes"]
        assert (newest["state"], oldest["state"]) == ("FAILED", "PASSED")
        free, matrix = newest["checks"]
        assert (free["value"], free["limit"], free["passed"], free["reason"]) == (4.0, 1.0, True, None)
        assert (matrix["reason"], matrix["passed"]) == ("cpu_too_slow", False)
        assert matrix["message"] == "0.5 GFLOP/s"
        refetched = await api(
            "query ($id: ID!) { node(id: $id) { id } }", seller.tenant.owner, id=newest["id"]
        )
        assert refetched.data["node"] == {"id": newest["id"]}

    async def test_a_retired_machine_is_not_measured(self, api: Api, seller: Seller) -> None:
        node_id = show(Prefix.NODE, seller.node_id)
        retire = "mutation ($id: ID!) { retireNode(input: {nodeId: $id}) { userErrors { code } } }"
        await api(retire, seller.tenant.owner, id=node_id)
        found = (await api(RUN, seller.tenant.owner, id=node_id)).data["runBenchmark"]
        assert found == {"benchmark": None, "userErrors": [{"code": "CONFLICT"}]}


@pytest.mark.usefixtures("replica")
class TestTelemetry:
    async def test_the_newest_sample_is_shown(self, api: Api, seller: Seller) -> None:
        assert (await seen(api, seller))["telemetry"] is None
        card = GpuSample(uuid="GPU-1", utilisation_percent=87.0)
        telemetry = Telemetry(
            clock_ms=1, cpu_percent=12.5, memory_used_bytes=2**40, disk_free_bytes=5, gpus=(card,)
        )
        api.services.telemetry.add(seller.node_id, telemetry)
        await api.services.telemetry.flush()
        assert (await seen(api, seller))["telemetry"] == {
            "cpuPercent": 12.5,
            "memoryUsedBytes": str(2**40),
            "diskFreeBytes": "5",
            "gpus": [{"uuid": "GPU-1", "utilisationPercent": 87.0, "temperatureC": None}],
        }

    async def test_hours_are_a_series(self, api: Api, seller: Seller) -> None:
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        minute = int(hour.timestamp()) // 60 + 5
        sums = MinuteSums(minute, "", samples=6, utilisation_sum=60.0, disk_free_min=9.0)
        newest = Telemetry(clock_ms=1, cpu_percent=1.0, memory_used_bytes=1, disk_free_bytes=1)
        record = NodeRecord(at_s=0.0, newest=newest, minutes=[sums])
        async with session_scope(api.services.sessions) as session:
            await roll_up(session, {seller.node_id: record})
        (found,) = (await seen(api, seller))["telemetryHours"]
        assert found == {
            "startsAt": hour.isoformat().replace("+00:00", "Z"),
            "device": "",
            "samples": 6,
            "utilisationPercent": 10.0,
            "diskFreeBytesMin": "9",
        }

    async def test_a_stranger_sees_no_machine(self, api: Api, seller: Seller) -> None:
        stranger = await api.tenant()
        assert await seen(api, seller, by=stranger.owner) is None


class TestMetrics:
    def test_machines_gpus_and_outcomes_are_counted(self) -> None:
        book, desk = TelemetryBook(cast("Any", None)), BenchmarkDesk(cast("Any", None))
        cards = (
            GpuSample(uuid="1", utilisation_percent=80.0, temperature_c=70.0, power_w=300.0),
            GpuSample(uuid="2", utilisation_percent=40.0, temperature_c=81.0, ecc_uncorrected_total=3),
            GpuSample(uuid="3"),
        )
        for cpu, gpus in ((10.0, cards), (30.0, ())):
            book.add(
                new_id(),
                Telemetry(clock_ms=1, cpu_percent=cpu, memory_used_bytes=1, disk_free_bytes=1, gpus=gpus),
            )
        desk.outcomes.update({"passed": 2, "gpu_too_slow_for_model": 1})
        registry = CollectorRegistry()
        registry.register(MachineMetrics(book, desk))
        said = generate_latest(registry).decode()
        for line in (
            "raymart_machines_reporting 2.0",
            "raymart_machines_cpu_percent 20.0",
            "raymart_gpus_reporting 3.0",
            "raymart_gpus_utilisation_percent 60.0",
            "raymart_gpus_temperature_celsius_max 81.0",
            "raymart_gpus_power_watts 300.0",
            "raymart_gpus_uncorrected_errors 3.0",
            'raymart_benchmarks_total{outcome="passed"} 2.0',
            'raymart_benchmarks_total{outcome="gpu_too_slow_for_model"} 1.0',
        ):
            assert line in said.splitlines()
