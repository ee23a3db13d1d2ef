import asyncio

from raymart_core.wire.link import Welcome, decode_control, unpack_frame
from raymart_core.wire.machine import Telemetry
from raymart_providers.link.outbox import Outbox
from raymart_providers.telemetry import Sampler, TelemetryReporter

WELCOME = Welcome(heartbeat_s=1.0, lease_s=4.0, pool="p", name="n")


class TestSampler:
    def test_a_machine_tells_its_processors_memory_and_disk(self, tmp_path):
        sampler = Sampler(folder=tmp_path, gpu_uuids=frozenset())
        found = sampler.sample()
        sampler.close()
        assert 0 <= found.cpu_percent <= 100
        assert found.memory_used_bytes > 0
        assert found.disk_free_bytes > 0
        assert found.gpus == ()

    def test_gpus_without_a_driver_are_left_out(self, tmp_path):
        sampler = Sampler(folder=tmp_path, gpu_uuids=frozenset({"GPU-1"}))
        assert sampler.sample().gpus == ()
        sampler.close()


class TestReporter:
    async def test_it_tells_at_once_and_again_while_the_link_is_up(self, tmp_path):
        heard: asyncio.Queue[Telemetry] = asyncio.Queue()

        async def write(frame):
            message = decode_control(unpack_frame(frame)[2])
            assert isinstance(message, Telemetry)
            heard.put_nowait(message)

        outbox = Outbox()
        reporter = TelemetryReporter(Sampler(folder=tmp_path, gpu_uuids=frozenset()), every_s=0.01)
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(reporter.run()), tasks.create_task(outbox.run(write))]
            reporter.up(outbox, WELCOME)
            async with asyncio.timeout(30):
                first, second = await heard.get(), await heard.get()
            assert first.clock_ms <= second.clock_ms
            reporter.down()
            for task in working:
                task.cancel()
