"""The hold on the worker process, by workers that die, hang and babble."""

import asyncio
import contextlib
import sys

import psutil
import pytest

from raymart_core.wire.link import Observed, Placement
from raymart_providers.pool_process import PoolAway, PoolProcess
from support.link_market import until

PLACEMENT = Placement(
    placement_id="plc_1",
    node="a",
    model="raymart/demo-chat",
    revision="sha256:aa",
    engine="llama_cpp",
    source="bundled:x",
    sha256="00",
    context_length=1024,
    replicas_min=1,
    replicas_max=1,
    slots=1,
)

CONNECTED = "import sys, json, time, os\nprint('{}', flush=True)\n"
ECHO = (
    CONNECTED
    + """
running = []
for line in sys.stdin:
    request = json.loads(line)
    if 'placements' in request:
        running = request['placements']
    if 'demand' in request:
        running = [dict(placement_id=f'{name} wants {count}') for name, count in request['demand'].items()]
    seen = [dict(placement_id=p['placement_id'], state='running', replicas=1, reason=str(os.getpid())) for p in running]
    print(json.dumps(dict(observed=seen)), flush=True)
"""
)


@pytest.fixture
async def make():
    pools = []

    def make(script, **timeouts):
        pools.append(PoolProcess((sys.executable, "-c", script), **{"call_timeout_s": 0.5, **timeouts}))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close()


def alive(pid):
    """Whether it runs; what nobody has reaped yet does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


class TestPoolProcess:
    async def test_placements_go_in_and_what_is_true_comes_out(self, make):
        pool = make(ECHO)
        await pool.connect()
        (seen,) = await pool.call([PLACEMENT])
        assert (seen.placement_id, seen.state) == ("plc_1", "running")
        # Without placements it only looks.
        assert await pool.call(None) == (Observed("plc_1", "running", 1, seen.reason),)
        assert await pool.call([]) == ()

    async def test_demand_goes_in_beside_placements(self, make):
        pool = make(ECHO)
        await pool.connect()
        (seen,) = await pool.call(None, demand={"plc_1": 1.5})
        assert seen.placement_id == "plc_1 wants 1.5"

    async def test_a_worker_that_cannot_connect_says_why(self, make):
        pool = make('print(\'{"error": "no Ray head listens"}\')')
        with pytest.raises(PoolAway, match="no Ray head listens"):
            await pool.connect()
        assert not pool.connected

    async def test_a_worker_that_never_connects_is_killed(self, make):
        pool = make("import time; time.sleep(60)", connect_timeout_s=0.3)
        with pytest.raises(PoolAway, match="no answer within"):
            await pool.connect()
        assert not pool.connected

    @pytest.mark.parametrize(
        ("behaviour", "said"),
        [
            ("sys.stdin.readline(); time.sleep(60)", "no answer within"),
            ("sys.stdin.readline(); os._exit(3)", "has ended"),
            ("sys.stdin.readline(); print('garbage', flush=True); time.sleep(60)", "DecodeError"),
            (
                'sys.stdin.readline(); print(\'{"error": "Ray is ill"}\', flush=True); time.sleep(60)',
                "Ray is ill",
            ),
        ],
    )
    async def test_a_worker_that_fails_is_replaced_by_the_next_connect(self, make, behaviour, said):
        pool = make(CONNECTED + behaviour)
        await pool.connect()
        pid = pool._process.pid
        with pytest.raises(PoolAway, match=said):
            await pool.call([PLACEMENT])
        assert not pool.connected
        assert not alive(pid)
        await pool.connect()
        assert pool.connected

    async def test_a_worker_that_died_between_calls_is_noticed(self, make):
        pool = make(ECHO)
        await pool.connect()
        pool._process.kill()
        await until(lambda: not pool.connected)
        with pytest.raises(PoolAway):
            await pool.call(None)

    async def test_a_call_that_is_given_up_does_not_mix_up_answers(self, make):
        pool = make(CONNECTED + "time.sleep(60)", call_timeout_s=30)
        await pool.connect()
        call = asyncio.ensure_future(pool.call(None))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert not pool.connected

    async def test_a_worker_ends_when_its_parent_is_killed(self):
        """The worker reads end of input; nothing of ours is left beside the Ray head."""
        parent = (
            "import asyncio, sys\n"
            "from raymart_providers.pool_process import PoolProcess\n"
            "async def main():\n"
            "    pool = PoolProcess((sys.executable, '-c', sys.argv[1]))\n"
            "    await pool.connect()\n"
            "    print('worker', pool._process.pid, flush=True)\n"
            "    await asyncio.sleep(60)\n"
            "asyncio.run(main())\n"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", parent, ECHO, stdout=asyncio.subprocess.PIPE
        )
        line = b""
        while not line.startswith(b"worker"):
            line = await process.stdout.readline()
        worker = int(line.split()[1])
        assert alive(worker)
        process.kill()
        await process.communicate()
        await until(lambda: not alive(worker))
