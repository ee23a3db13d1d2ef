"""A generation as the lines of its answer: step by step as they are made, or collected for a peer that wants it whole.

Every write of a step wakes the gateway, which reads, checks and counts it. Of an answer that nobody reads before its
end that is most of what the whole request costs both sides, so there the steps of a second make one line.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self

from raymart_core.wire.replica import PromptEvent, StepEvent, encode
from raymart_serve.engines.protocol import GenerationEvent, GenerationFinish, GenerationStep
from raymart_serve.replica.http_exchange import Exchange

FLUSH_S = 1.0
"""How long tokens may wait: the gateway sees by what comes that the engine has not stalled."""
TOKENS_COLLECTED_MAX = 128
"""Tokens in one line; with 20 alternatives for each, half of what the gateway reads as a line."""

FinishLine = Callable[[GenerationFinish], bytes]


async def send_steps(
    events: AsyncIterator[GenerationEvent],
    exchange: Exchange,
    *,
    prompt_ids: tuple[int, ...],
    finish_line: FinishLine,
) -> None:
    """The prompt at once, each step in a write of its own as it is made, then the finish. Raises: ReaderTooSlow."""
    await exchange.write(_prompt_line(prompt_ids))
    index = 0
    async for event in events:
        if isinstance(event, GenerationStep):
            await exchange.write(_step_line(index, event))
            index += 1
        else:
            await exchange.finish(finish_line(event))


async def send_whole(
    events: AsyncIterator[GenerationEvent],
    exchange: Exchange,
    *,
    prompt_ids: tuple[int, ...],
    finish_line: FinishLine,
) -> None:
    """All of it in as few writes as `FLUSH_S` and `TOKENS_COLLECTED_MAX` allow: mostly one. Raises: ReaderTooSlow."""
    with _Collected(exchange, _prompt_line(prompt_ids)) as collected:
        async for event in events:
            if isinstance(event, GenerationStep):
                if collected.add(event):
                    await exchange.write(collected.take())
            else:
                await exchange.finish(collected.take() + finish_line(event))


class _Collected:
    """Lines that wait to be sent. While it is entered, none waits longer than `FLUSH_S` for more to come."""

    def __init__(self, exchange: Exchange, first_line: bytes) -> None:
        self._exchange = exchange
        self._line = first_line
        self._steps: list[GenerationStep] = []
        self._tokens = 0
        self._index = 0
        self._overdue = False

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def add(self, step: GenerationStep) -> bool:
        """Take a step; whether what is collected must be sent now."""
        self._steps.append(step)
        self._tokens += len(step.ids)
        return self._overdue or self._tokens >= TOKENS_COLLECTED_MAX

    def take(self) -> bytes:
        """What is collected, which is forgotten here."""
        line, self._line = self._line, b""
        if self._steps:
            line += _step_line(self._index, _joined(self._steps))
            self._index += 1
            self._steps.clear()
            self._tokens = 0
        self._overdue = False
        return line

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._arm()
        if not self._exchange.keeps_up:
            return  # No more collects than one line holds: the write of that waits for the peer.
        # After a second without any, the next step leaves at once: the peer may be about to give up.
        is_late = not self._steps
        self._exchange.push(self.take())
        self._overdue = is_late


def _joined(steps: Sequence[GenerationStep]) -> GenerationStep:
    """One step of all tokens of several."""
    if len(steps) == 1:
        return steps[0]
    logprobs = None
    if steps[0].logprobs is not None:
        logprobs = tuple(entry for step in steps for entry in step.logprobs or ())
    return GenerationStep(
        ids=tuple(token for step in steps for token in step.ids),
        count=steps[-1].count,
        text="".join([step.text for step in steps]),
        exact=all(step.exact for step in steps),
        logprobs=logprobs,
        tool_deltas=tuple(delta for step in steps for delta in step.tool_deltas),
        reasoning="".join([step.reasoning for step in steps]),
        ends=steps[-1].ends,
    )


def _prompt_line(prompt_ids: tuple[int, ...]) -> bytes:
    return encode(PromptEvent(ids=prompt_ids)) + b"\n"


def _step_line(index: int, step: GenerationStep) -> bytes:
    event = StepEvent(
        i=index,
        t=step.ids,
        n=step.count,
        d=step.text,
        exact=step.exact,
        lp=step.logprobs,
        tool=step.tool_deltas,
        r=step.reasoning,
        f=step.ends,
    )
    return encode(event) + b"\n"
