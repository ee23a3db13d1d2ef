"""A provider's machine dies in the middle of the customer's questions: what they notice, and when it is back."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.long_stream import TOKENS, LongStream, read_long_stream
from raymart_local.demo.purchase import MODEL, Buyer, Purchase
from raymart_local.logs import Console

QUESTIONS = 120
RATE_PER_S = 20
KILLED_AT_S = 2.0
BACK_WITHIN_S = 75.0
"""Its Ray node starts in 12 s on a quiet machine, and in 30 s on a busy one."""
_POLL_S = 0.5

_LIVE = "query($slug: String!) { model(slug: $slug) { liveEndpoints(first: 10) { nodes { provider { slug } } } } }"

KillMachine = Callable[[str], tuple[str, int]]
"""Kills the machine of the provider with this slug; returns the machine's name and how many processes died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One question, from when it was asked."""

    asked_at_s: float
    """After the first one was."""
    took_s: float
    answer: Purchase | None
    error: str = ""
    """Why there is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What happened."""

    node: str
    provider: str
    """Slug of the one whose machine was killed: it served most until then."""
    processes: int
    killed_at_s: float
    asked: Sequence[Answered]
    stream: LongStream
    """What its customer read while it was killed."""
    back_after_s: float | None
    """From the kill until requests were routed there again; None when that was not within `BACK_WITHIN_S`."""

    @property
    def failed(self) -> Sequence[str]:
        """What was said instead of an answer."""
        return [one.error for one in self.asked if one.answer is None]

    @property
    def purchases(self) -> Sequence[Purchase]:
        """All answers."""
        return [one.answer for one in self.asked if one.answer is not None]

    @property
    def before(self) -> Counter[str]:
        """Who answered what was asked before the kill."""
        return self._served(killed=False)

    @property
    def after(self) -> Counter[str]:
        """Who answered what was asked after it."""
        return self._served(killed=True)

    @property
    def longest_s(self) -> float:
        """The longest that a question took."""
        return max((one.took_s for one in self.asked), default=0.0)

    def _served(self, *, killed: bool) -> Counter[str]:
        return Counter(
            one.answer.provider
            for one in self.asked
            if one.answer is not None and (one.asked_at_s >= self.killed_at_s) is killed
        )


class Questions:
    """Asks at a steady rate, and has the busiest provider's machine killed in the middle."""

    def __init__(
        self, buyer: Buyer, questions: Sequence[str], *, kill: KillMachine, console: Console
    ) -> None:
        self._buyer = buyer
        self._questions = questions
        self._kill = kill
        self._console = console
        self._began = 0.0

    async def ask(self) -> Outage:
        """Ask, kill, and go on asking. `back_after_s` of the outage is open still: `back` waits for it."""
        self._began = time.monotonic()
        sending: list[asyncio.Task[Answered]] = []
        killed: _Kill | None = None
        async with asyncio.TaskGroup() as group:
            for number in range(QUESTIONS):
                await asyncio.sleep(max(0.0, number / RATE_PER_S - self._age_s))
                if killed is None and self._age_s >= KILLED_AT_S:
                    killed = await self._kill_busiest(sending)
                question = self._questions[number % len(self._questions)]
                sending.append(group.create_task(self._one(question)))
        assert killed is not None
        outage = Outage(
            node=killed.node,
            provider=killed.provider,
            processes=killed.processes,
            killed_at_s=killed.at_s,
            asked=[one.result() for one in sending],
            stream=await killed.stream,
            back_after_s=None,
        )
        self._console.say("demo", told(outage))
        return outage

    async def back(self, outage: Outage) -> float | None:
        """Wait until requests are routed to the killed machine again; the seconds since the kill, None if too many."""
        while self._age_s - outage.killed_at_s < BACK_WITHIN_S:
            live = await self._buyer.graphql.run(_LIVE, slug=MODEL)
            slugs = {one["provider"]["slug"] for one in live["model"]["liveEndpoints"]["nodes"]}
            if outage.provider in slugs:
                back_s = self._age_s - outage.killed_at_s
                self._console.say(
                    "demo", f"{outage.node} of {outage.provider} serves again after {back_s:.0f} s"
                )
                return back_s
            await asyncio.sleep(_POLL_S)
        return None

    @property
    def _age_s(self) -> float:
        return time.monotonic() - self._began

    async def _one(self, question: str) -> Answered:
        asked_at_s = self._age_s
        answer, error = None, ""
        try:
            answer = await self._buyer.rest(question)
        except (DemoFailed, httpx.HTTPError) as failure:
            error = str(failure) or type(failure).__name__
        return Answered(asked_at_s=asked_at_s, took_s=self._age_s - asked_at_s, answer=answer, error=error)

    async def _kill_busiest(self, sending: Sequence[asyncio.Task[Answered]]) -> "_Kill":
        """Kill the machine that answered most so far, once it has begun to stream a long answer."""
        served = Counter(
            one.answer.provider for task in sending if task.done() and (one := task.result()).answer
        )
        if not served:
            raise DemoFailed(f"no question was answered within {KILLED_AT_S:g} s")
        [(provider, _)] = served.most_common(1)
        begun = asyncio.Event()
        stream = asyncio.create_task(read_long_stream(self._buyer, provider, begun=begun), name="stream")
        beginning = asyncio.create_task(begun.wait())
        # A stream that is refused never begins; its own error tells why.
        await asyncio.wait((stream, beginning), return_when=asyncio.FIRST_COMPLETED)
        beginning.cancel()
        killed_at_s = self._age_s
        node, processes = await asyncio.to_thread(self._kill, provider)
        self._console.say(
            "demo", f"SIGKILL of all {processes} processes of {node}, the machine of {provider}"
        )
        return _Kill(at_s=killed_at_s, provider=provider, node=node, processes=processes, stream=stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kill:
    at_s: float
    provider: str
    node: str
    processes: int
    stream: "asyncio.Task[LongStream]"


def told(outage: Outage) -> str:
    """The outage in a sentence."""
    return (
        f"{outage.node} of {outage.provider} was killed in the middle of {len(outage.asked)} questions: "
        f"{outage.before.total()} asked before ({_shares(outage.before)}), "
        f"{outage.after.total()} after ({_shares(outage.after)}), "
        f"{len(outage.failed)} failed, the longest took {outage.longest_s:.1f} s; a stream of {TOKENS} tokens "
        f"went on at {', '.join(map(str, outage.stream.resumed_at)) or 'no'} tokens"
    )


def _shares(served: Counter[str]) -> str:
    return ", ".join(f"{slug}: {count}" for slug, count in sorted(served.items()))
