"""Many callers, one query: whoever asks while a batch is under way is answered by the next one.

A calm process asks at once, alone, and waits for nobody; in a storm of reconnecting nodes a statement that is asked for
by a thousand links runs a few times, each time for all that have come meanwhile. There is no timer and no delay.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Generic, TypeVar

Key = TypeVar("Key")
Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Batches(Generic[Key, Ask, Answer]):
    """`work` is given what was asked under each key, at most `size_max` at once, and answers by key.

    Two asks under one key in one batch are one: the newer one is what is worked on, and both get its answer. A key that
    `work` leaves out is answered with `missing`. What `work` raises, everybody who waits for that batch is raised.
    """

    def __init__(
        self,
        work: Callable[[Mapping[Key, Ask]], Awaitable[Mapping[Key, Answer]]],
        *,
        missing: Answer,
        size_max: int = 1_000,
    ) -> None:
        self._work = work
        self._missing = missing
        self._size_max = size_max
        self._waiting: dict[Key, tuple[Ask, asyncio.Future[Answer]]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, key: Key, ask: Ask) -> Answer:
        """The answer for `key`. The caller bounds the wait. Raises: what `work` raises."""
        known = self._waiting.get(key)
        answer = known[1] if known is not None else asyncio.get_running_loop().create_future()
        self._waiting[key] = ask, answer
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="batches")
        # One of several who wait may give up; the rest are still to be answered.
        return await asyncio.shield(answer)

    async def _run(self) -> None:
        """Until nobody waits."""
        try:
            while self._waiting:
                await self._run_one()
        finally:
            self._worker = None

    async def _run_one(self) -> None:
        batch = dict(islice(self._waiting.items(), self._size_max))
        for key in batch:
            del self._waiting[key]
        try:
            answers = await self._work({key: ask for key, (ask, _) in batch.items()})
        except BaseException as error:
            for _, answer in batch.values():
                _fail(answer, error)
            if not isinstance(error, Exception):
                raise
            return
        for key, (_, answer) in batch.items():
            if not answer.done():
                answer.set_result(answers.get(key, self._missing))


def _fail(answer: "asyncio.Future[Answer]", error: BaseException) -> None:
    if answer.done():
        return
    if isinstance(error, asyncio.CancelledError):
        answer.cancel()
        return
    answer.set_exception(error)
    # Whoever waited may have gone; then nobody is to be told.
    answer.exception()
