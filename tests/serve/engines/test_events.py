"""A reader that is behind gets several steps as one; nothing is lost, reordered or swallowed."""

import asyncio

import pytest

from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob, ToolDelta, Usage
from raymart_serve.engines.llama_cpp.events import Channel, Events
from raymart_serve.engines.protocol import EngineFailed, GenerationFinish, GenerationStep

FINISH = GenerationFinish(reason=FinishReason.STOP, usage=Usage(prompt=1, completion=20))


def step(count: int, *, exact: bool = True) -> GenerationStep:
    entry = TokenLogprob(token=f"{count} ", logprob=-0.5)
    delta = ToolDelta(index=0, arguments=str(count))
    return GenerationStep(
        ids=(100 + count,),
        count=count,
        text=f"{count} ",
        exact=exact,
        logprobs=(entry,),
        tool_deltas=(delta,),
    )


def behind(*events: object) -> Events:
    channel = Channel(asyncio.get_running_loop(), size_max=64)
    for event in events:
        assert channel.put(event)
    return Events(channel)


class TestCatchingUp:
    async def test_steps_that_wait_are_joined_in_order_and_the_finish_stays_apart(self) -> None:
        *steps, finish = [event async for event in behind(*(step(n) for n in range(1, 21)), FINISH)]
        assert [s.count for s in steps] == [8, 16, 20]
        assert [token for s in steps for token in s.ids] == [100 + n for n in range(1, 21)]
        assert "".join(s.text for s in steps) == "".join(f"{n} " for n in range(1, 21))
        assert [len(s.logprobs) for s in steps] == [len(s.tool_deltas) for s in steps] == [8, 8, 4]
        assert finish is FINISH

    async def test_one_inexact_step_makes_the_whole_inexact(self) -> None:
        joined = await anext(behind(step(1), step(2, exact=False), step(3)))
        assert (joined.count, joined.exact) == (3, False)

    async def test_a_reader_that_keeps_up_gets_each_step_as_it_is(self) -> None:
        events = behind(step(1))
        first = await anext(events)
        assert events.channel.put(step(2))
        assert [first.count, (await anext(events)).count] == [1, 2]

    async def test_a_failure_behind_steps_comes_after_them(self) -> None:
        events = behind(step(1), step(2), EngineFailed("it broke"))
        assert (await anext(events)).count == 2
        assert events.tokens == 2
        with pytest.raises(EngineFailed, match="it broke"):
            await anext(events)
