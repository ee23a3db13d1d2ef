"""The events of one generation, on their way from its thread to its reader."""

from collections.abc import AsyncIterator

from raymart_serve.engines.channel import ChannelClosed, StepChannel
from raymart_serve.engines.protocol import EngineFailed, GenerationEvent, GenerationStep

Channel = StepChannel[GenerationEvent | EngineFailed]


class Events(AsyncIterator[GenerationEvent]):
    """What one generation's thread puts into its channel, up to the finish."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.tokens = 0
        self.finished = False
        self.engine_since: float | None = None
        """Monotonic time since which it is the engine's turn; None while it is the reader's. Set by the thread."""

    async def __anext__(self) -> GenerationEvent:
        if self.finished:
            raise StopAsyncIteration
        try:
            event = await self.channel.get()
        except ChannelClosed as error:
            raise EngineFailed("the engine was closed") from error
        if isinstance(event, EngineFailed):
            raise event
        if isinstance(event, GenerationStep):
            self.tokens = event.count
        else:
            self.finished = True
        return event
