"""The events of one generation, on their way from its thread to its reader."""

from collections.abc import AsyncIterator, Sequence

from raymart_serve.engines.channel import ChannelClosed, StepChannel
from raymart_serve.engines.protocol import EngineFailed, GenerationEvent, GenerationStep

_TOGETHER_MAX = 8
"""Steps that are handed on as one when the reader is behind."""

Channel = StepChannel[GenerationEvent | EngineFailed]


class Events(AsyncIterator[GenerationEvent]):
    """What one generation's thread puts into its channel, up to the finish."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.tokens = 0
        self.finished = False
        self._next: GenerationEvent | EngineFailed | None = None
        self.engine_since: float | None = None
        """Monotonic time since which it is the engine's turn; None while it is the reader's. Set by the thread."""

    async def __anext__(self) -> GenerationEvent:
        if self.finished:
            raise StopAsyncIteration
        event, self._next = self._next, None
        if event is None:
            try:
                event = await self.channel.get()
            except ChannelClosed as error:
                raise EngineFailed("the engine was closed") from error
        if isinstance(event, GenerationStep):
            event = self._with_those_behind(event)
        if isinstance(event, EngineFailed):
            raise event
        if isinstance(event, GenerationStep):
            self.tokens = event.count
        else:
            self.finished = True
        return event

    def _with_those_behind(self, step: GenerationStep) -> GenerationStep:
        """`step` and what the engine has made since: a reader that is behind catches up at the price of one step."""
        steps = [step]
        while len(steps) < _TOGETHER_MAX:
            self._next = self.channel.get_nowait()
            if not isinstance(self._next, GenerationStep):
                break
            steps.append(self._next)
            self._next = None
        return step if len(steps) == 1 else _joined(steps)


def _joined(steps: Sequence[GenerationStep]) -> GenerationStep:
    entries = [step.logprobs for step in steps]
    return GenerationStep(
        ids=tuple(token for step in steps for token in step.ids),
        count=steps[-1].count,
        text="".join(step.text for step in steps),
        exact=all(step.exact for step in steps),
        logprobs=None if entries[0] is None else tuple(one for some in entries for one in some or ()),
        tool_deltas=tuple(delta for step in steps for delta in step.tool_deltas),
        ends=steps[-1].ends,
    )
