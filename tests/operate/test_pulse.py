"""What a supervisor takes for a worker that hangs. Steps are scripted; the control connection is a real one."""

from collections.abc import Iterator

import pytest

from raymart_graphql.operator.control import ASK, HERE, PACKET_BYTES_MAX, control_pair
from raymart_graphql.operator.pulse import LATE, STEPS, falls_silent

PATIENCE_S = 10.0
STEP_S = PATIENCE_S / STEPS
SILENT, ANSWERED, LATE_MYSELF = "silent", "answered", "late myself"


class ScriptOver(Exception):
    """The supervisor waits still."""


class Worker:
    """The other end, which does in each of the supervisor's steps what is written."""

    def __init__(self):
        self.control, self.end = control_pair()
        self.end.settimeout(0)
        self.asked = 0

    async def judged(self, script: Iterator[str]) -> bool:
        async def sleep(step_s: float) -> float:
            assert step_s == STEP_S
            says = next(script, None)
            if says is None:
                raise ScriptOver
            if says == ANSWERED:
                assert self.end.recv(PACKET_BYTES_MAX) == ASK
                self.asked += 1
                self.end.send(HERE)
            return step_s * LATE * 1.01 if says == LATE_MYSELF else step_s * 1.01

        return await falls_silent(self.control, patience_s=PATIENCE_S, sleep=sleep)


@pytest.fixture
def worker():
    worker = Worker()
    with worker.control, worker.end:
        yield worker


class TestFallsSilent:
    async def test_after_its_whole_patience_and_not_before(self, worker):
        steps = iter([ANSWERED] + [SILENT] * STEPS)
        assert await worker.judged(steps)
        assert list(steps) == []
        with pytest.raises(ScriptOver):
            await worker.judged(iter([SILENT] * (STEPS - 1)))

    async def test_one_that_answers_late_begins_anew(self, worker):
        with pytest.raises(ScriptOver):
            await worker.judged(iter(([SILENT] * (STEPS - 1) + [ANSWERED]) * 20))
        assert worker.asked == 20
        # One question is open and no more: a worker that comes back has one to answer.
        assert worker.end.recv(PACKET_BYTES_MAX) == ASK
        with pytest.raises(BlockingIOError):
            worker.end.recv(PACKET_BYTES_MAX)

    async def test_nobody_is_judged_while_the_supervisor_is_late_itself(self, worker):
        with pytest.raises(ScriptOver):
            await worker.judged(iter([LATE_MYSELF] * 100))
        with pytest.raises(ScriptOver):
            await worker.judged(iter(([SILENT] * (STEPS - 1) + [LATE_MYSELF]) * 20))

    async def test_one_that_ends_is_not_silent(self, worker):
        worker.end.close()
        assert not await worker.judged(iter([SILENT] * STEPS * 2))
