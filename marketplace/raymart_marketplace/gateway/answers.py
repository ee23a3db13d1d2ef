"""Whole answers: the events of each choice taken together. One choice that fails does not take the others with it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from raymart_core.errors import DomainError
from raymart_marketplace.gateway.events import Broken, Delta, Finished, InferenceEvent, Started

Events = AsyncGenerator[InferenceEvent, None]
"""What one choice tells; closing it stops the engine."""

TOGETHER_MAX = 8
"""Choices of one body that are generated at once."""
_NOTHING = Delta(text="", token_ids=())


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A choice that is complete."""

    started: Started
    answer: Delta
    finished: Finished


async def whole(events: Events) -> Whole:
    """The one choice. Raises: its error, also of one that broke, because nothing has been sent yet."""
    started: Started | None = None
    answer = _NOTHING
    async for event in events:
        if isinstance(event, Delta):  # There is one at most: nothing is streamed.
            answer = event
        elif isinstance(event, Started):
            started = event
        elif isinstance(event, Broken):
            raise event.error
        elif isinstance(event, Finished):
            assert started is not None
            return Whole(started=started, answer=answer, finished=event)
    raise AssertionError("a generation ends with Finished, Broken or an error")


async def all_whole(choices: Sequence[Events]) -> Sequence[Whole | DomainError]:
    """Every choice, or why there is none. Raises: the first one's error when all failed."""
    gate = asyncio.Semaphore(TOGETHER_MAX)

    async def one(events: Events) -> Whole | DomainError:
        async with gate, aclosing(events):
            try:
                return await whole(events)
            except DomainError as error:
                return error

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(events)) for events in choices]
    ended = [task.result() for task in running]
    if isinstance(ended[0], DomainError) and not any(isinstance(each, Whole) for each in ended):
        raise ended[0]
    return ended
